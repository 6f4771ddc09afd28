"""Train the image encoder on drawings of all sets.

Its embeddings should hold everything of a scene, each attribute by a linear map, and lie where the text encoder's
pooled states of the scene's captions lie. The patches where a drawing stands should hold what it shows. Drawings are
moved, mirrored and tinted. The held-out pairs of concept and style are never seen, and the figures are of these.

B images, N patches.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.in_process import DEVICE
from drawn_world.models.image_encoder import EMBEDDED, GRID, PIXELS, SEEN, ImageEncoder
from drawn_world.models.text_encoder import SHORT, TextEncoder, Tokens, padded
from drawn_world.scenes.drawing import COLOURLESS, Change, draw, more_drawings, other_sets_drawings
from drawn_world.scenes.scene import (
    BIG_PLACES,
    CONCEPTS,
    GROUNDS,
    HELD_OUT,
    NATURAL,
    OFTEN_TINTED,
    PAIRS,
    PLACES,
    REFERENCES,
    SETS,
    SHARE_PAIRS,
    SIDE,
    STYLES,
    TINTS,
    Scene,
    random_scene,
    set_of,
    square_of,
    style_of,
)
from drawn_world.scenes.words import random_attributes, random_caption
from drawn_world.training import Training, TrainingArguments

LOG = logging.getLogger(__name__)
STEPS, BATCH = 17_000, 64
ARGUMENTS = {"learning_rate": 1.5e-3, "weight_decay": 0.05, "ema_decay": 0.0}
POOL, FRESH = 4000, 16  # images kept; drawn anew in each step
MOVED = 6  # pixels at most
TRIED = 600
ALL_PLACES = (*((place,) for place in PLACES), *PAIRS)  # of one drawing and of two
LABELS: dict[str, Sequence] = {
    "concept": tuple(CONCEPTS),
    "second": (None, *CONCEPTS),
    "style": tuple(STYLES),
    "set": SETS,
    "tint": (NATURAL, *TINTS),
    "places": ALL_PLACES,
    "ground": tuple(GROUNDS),
}
THINGS = ("thing", "second thing")  # what the drawings show, concept or not
NUMBERS = {name: number for number, name in enumerate((*LABELS, *THINGS))}
CLOSE = ("style", "set")  # labels that are read from single patches, too
IGNORED = -100  # a label that an image is not trained on
SHARE_MORE, SHARE_COLOURLESS, SHARE_RECOLOURED, SHARE_TURNED = 0.5, 0.2, 0.3, 0.5
WEIGHTS = {"concept": 2.0, "second": 0.5, "style": 1.5, "set": 0.5, "thing": 0.5, "here": 2.0}  # of losses, if not 1
ALIKE, SHARPNESS = 0.3, 10.0  # weight of the likeness with texts; how sharp it is
IMPOSSIBLE = -1e4


@functools.cache
def trained_on() -> tuple[tuple[str, ...], Tensor]:
    """All things that are drawn, the concepts first, and in which sets it is trained on each [things, sets]."""
    things = (*CONCEPTS, *sorted({word for word, _ in more_drawings()}))
    seen = torch.zeros(len(things), len(SETS), dtype=torch.bool)
    numbers = {thing: number for number, thing in enumerate(things)}
    for thing, style in (*REFERENCES, *other_sets_drawings(), *more_drawings()):
        seen[numbers[thing], SETS.index(set_of(style))] = True
    return things, seen


@functools.cache
def squares() -> Tensor:
    """The weights of anchors whose mean stands for a drawing, by places and drawing [places, 2, anchors]."""
    at = torch.arange(0, GRID, 2) * PIXELS + PIXELS / 2
    means = torch.zeros(len(ALL_PLACES), len(THINGS), len(at), len(at))
    for places, mean in zip(ALL_PLACES, means, strict=True):
        for place, own in zip(places, mean, strict=False):
            left, top, side = square_of(place)
            rows, columns = ((start < at) & (at < start + side) for start in (top, left))
            own[rows[:, None] & columns] = 1 / int(rows.sum() * columns.sum())
    return means.flatten(2)


def labels_of(scene: Scene) -> list[int]:
    """The numbers of a scene's values, IGNORED where there is none."""
    concept, second = (*scene.concepts, None)[:2]
    things, _ = trained_on()
    values = (concept, second, scene.style, set_of(scene.style), scene.tint, scene.places, scene.ground)
    pairs = zip((*LABELS.values(), things, things), (*values, concept, second), strict=True)
    return [known.index(value) if value in known else IGNORED for known, value in pairs]


class Images:
    """Drawn scenes as bytes, some of which are drawn anew for every batch."""

    def __init__(self, seed: int) -> None:
        things, seen = trained_on()
        every = [(things[thing], style_of(SETS[at])) for thing, at in seen.nonzero().tolist()]
        self.drawings = [pair for pair in every if pair[0] in CONCEPTS]
        self.more = [pair for pair in every if pair[0] not in CONCEPTS]
        self.tokens, self.next = Tokens(), 0
        self.pixels = np.zeros((POOL, SIDE, SIDE, 3), np.uint8)
        self.labels = np.zeros((POOL, len(NUMBERS)), np.int64)
        self.captions = np.zeros((POOL, SHORT), np.int64)
        self.visible = np.zeros((POOL, len(NUMBERS)), bool)
        self.draw(POOL // 4, random.Random(f"pool {seed}"))

    def draw(self, count: int, drawn: random.Random) -> None:
        for _ in range(count):
            row, more = self.next % POOL, drawn.random() < SHARE_MORE
            of, pairs = (self.more, 0.0) if more else (self.drawings, SHARE_PAIRS)
            scene = random_scene(drawn, of, pairs, OFTEN_TINTED)
            shift = (drawn.randint(-MOVED, MOVED), drawn.randint(-MOVED, MOVED))
            change, hidden = random_change(more, scene.tint == NATURAL, drawn)
            self.pixels[row] = draw(scene, shift, change) * 255 + 0.5
            self.labels[row] = labels_of(scene)
            self.visible[row] = [name not in hidden for name in NUMBERS]
            nameless = [*["concepts"] * more, *["style"] * (scene.style not in STYLES)]
            self.captions[row] = self.caption(scene, {*hidden, *nameless}, drawn)
            self.next += 1

    def caption(self, scene: Scene, left_out: set[str], drawn: random.Random) -> list[int]:
        """A caption's tokens."""
        while True:
            attributes = [name for name in random_attributes(drawn) if name not in left_out]
            ids = self.tokens.of_phrases(random_caption(scene, attributes, drawn))
            if len(ids) <= SHORT:
                return padded(ids)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Images [B, 3, 96, 96], all their labels, which of them can be seen, and captions."""
        drawn = random.Random(step)
        self.draw(FRESH, drawn)
        rows = [drawn.randrange(min(self.next, POOL)) for _ in range(BATCH)]
        pixels = torch.from_numpy(self.pixels[rows]).movedim(-1, 1).float() / 255
        return pixels, *(torch.from_numpy(part[rows]) for part in (self.labels, self.visible, self.captions))


def random_change(more: bool, natural: bool, drawn: random.Random) -> tuple[Change, Sequence[str]]:
    """A change of drawings, and the labels that cannot be seen after it."""
    flip, lot, turns = drawn.random() < 0.5, drawn.random(), 0
    change, hidden = np.asarray, []
    if lot < SHARE_COLOURLESS:
        change, hidden = drawn.choice(COLOURLESS), ["style", "set", "tint"]
    elif lot < SHARE_COLOURLESS + SHARE_RECOLOURED and natural:
        order = [*drawn.sample(range(3), 3), 3]
        change, hidden = lambda drawing: drawing[..., order], ["tint"]
    if more and drawn.random() < SHARE_TURNED:
        turns, hidden = drawn.randrange(1, 4), [*hidden, *THINGS]
    return lambda drawing: np.rot90(change(drawing)[:, :: 1 - 2 * flip], turns), hidden


class Reading(nn.Module):
    """The encoder with a linear map for each label, and others for what patches hold."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.sizes, things = [len(values) for values in LABELS.values()], len(trained_on()[0])
        self.told, self.thing = nn.Linear(EMBEDDED, sum(self.sizes)), nn.Linear(EMBEDDED, things)
        self.here, self.looked_at = nn.Linear(SEEN, things), nn.Linear(SEEN, 1)
        self.close = nn.Linear(SEEN, sum(len(LABELS[name]) for name in CLOSE))

    def forward(self, images: Tensor, places: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings, and logits by label; "style close" by single patches, "here" by those of each drawing [B, 2, K].

        images [B, 3, 96, 96]; places [B], numbers of ALL_PLACES, where the drawings stand.
        """
        *_, near, _, _, states = self.encoder.layers(images, whole=False)
        embeddings = self.encoder.embedded(states)
        logits = dict(zip(LABELS, self.told(embeddings).float().split(self.sizes, -1), strict=True))
        logits["thing"] = self.thing(embeddings).float()
        spots = torch.einsum("bsn,bnc->bsc", squares().to(states.seen)[places], states.seen[:, 1:])
        logits["here"] = self.here(spots).float()
        patches = near.seen[:, 1:]
        looked_at = (patches * self.looked_at(patches).float().softmax(1)).sum(1)
        close = self.close(looked_at).float().split([len(LABELS[name]) for name in CLOSE], -1)
        return embeddings, logits | {f"{name} close": part for name, part in zip(CLOSE, close, strict=True)}


def possible(labels: Tensor) -> dict[str, Tensor]:
    """A mask of the values that are ever met together with an image's other values, by label [B, values].

    A concept is never seen in the style that is held out of it. Without this, one would be told by the other: "no
    apple is flat".
    """
    seen = trained_on()[1].to(labels.device)
    own, second = labels[:, NUMBERS["set"]], labels[:, NUMBERS["second"]] - 1
    by_set = seen[: len(CONCEPTS)].T[own]
    sets = seen[labels[:, NUMBERS["thing"]]] & (seen[second.clamp(min=0)] | (second < 0)[:, None])
    styles = sets[:, [SETS.index(name) for name in STYLES.values()]]
    return {
        "concept": by_set,
        "second": torch.cat([torch.ones_like(by_set[:, :1]), by_set], 1),
        "thing": seen.T[own],
        "here": seen.T[own][:, None],
        **{f"{name}{near}": some for name, some in (("style", styles), ("set", sets)) for near in ("", " close")},
    }


def values_of(name: str, labels: Tensor) -> Tensor:
    """The values of a label [B]; of "here" for each of two drawings [B, 2]."""
    return labels[:, [NUMBERS[thing] for thing in THINGS] if name == "here" else NUMBERS[name.removesuffix(" close")]]


def loss_of(reading: Reading, text: TextEncoder, batch: Sequence[Tensor]) -> Tensor:
    images, labels, visible, captions = batch
    with torch.no_grad():
        pooled = text(captions)[1]
    with torch.autocast(images.device.type, torch.bfloat16):
        embeddings, logits = reading(images, labels[:, NUMBERS["places"]])
    total, may = torch.zeros((), device=images.device), possible(labels)
    wanted = labels.masked_fill(~visible, IGNORED)
    for name, made in logits.items():
        made = made.masked_fill(~may[name], IMPOSSIBLE) if name in may else made
        loss = F.cross_entropy(made.flatten(0, -2), values_of(name, wanted).flatten())
        total = total + WEIGHTS.get(name, 1.0) * loss
    alike = SHARPNESS * F.normalize(embeddings.float(), dim=-1) @ F.normalize(pooled, dim=-1).T
    own = torch.arange(len(alike), device=alike.device)
    return total + ALIKE * (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2


def train(steps: int) -> None:
    torch.manual_seed(0)
    reading, text = Reading(), TextEncoder.from_stored().to(DEVICE)
    training = Training("image_encoder", reading, TrainingArguments(steps, **ARGUMENTS))
    images = Images(training.step)
    training.run(
        lambda step: loss_of(reading, text, [part.to(DEVICE) for part in images.batch(step)]),
        lambda: figures(reading, sorted(HELD_OUT)),
        500,
    )
    LOG.info("of pairs that it was trained on: %s", figures(reading, REFERENCES))


@torch.no_grad()
def figures(reading: Reading, pairs: Sequence[tuple[str, str]], count: int = TRIED) -> dict[str, float]:
    """The share of scenes of these drawings in which each attribute is right; of some also among big drawings."""
    drawn, device = random.Random("tried"), next(reading.parameters()).device
    scenes = [random_scene(drawn, pairs) for _ in range(count)]
    images = torch.from_numpy(np.stack([draw(scene) for scene in scenes])).movedim(-1, 1).float().to(device)
    labels = torch.tensor([labels_of(scene) for scene in scenes])
    parts = zip(images.split(100), labels[:, NUMBERS["places"]].to(device).split(100), strict=True)
    found, right = [reading(*part)[1] for part in parts], {}
    for name in (*(name for name in LABELS if name != "set"), "style close", "here"):
        wanted = values_of(name, labels)
        same = torch.cat([logits[name] for logits in found]).cpu().argmax(-1) == wanted
        right[name] = same[wanted != IGNORED].float()
    big = torch.tensor([scene.places[0] in BIG_PLACES for scene in scenes])
    right |= {f"{name} of a big one": right[name][big] for name in ("concept", "style")}
    return {name: round(values.mean().item(), 3) for name, values in right.items()}


def without_linear_maps(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """A trained model as it is stored: without the maps for drawings that are not stored."""
    return {name: part for name, part in model.items() if not name.startswith(("thing.", "here."))}
