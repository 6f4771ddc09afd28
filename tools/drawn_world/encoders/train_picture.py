"""Train the image encoder on drawings of all sets; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m drawn_world.encoders.train_picture [steps]

Its embeddings should tell everything of a scene, each attribute by a linear map, and lie where the text encoder's
pooled states of the scene's captions lie. The patches where a drawing stands should tell what it shows. Drawings are
moved, mirrored and tinted. The held-out pairs of concept and style are never seen, and the figures are of these.
"""

from __future__ import annotations

import functools
import logging
import random
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drawn_world.encoders.picture import EMBEDDED, GRID, PIXELS, SEEN, PictureEncoder
from drawn_world.encoders.text import SHORT, TextEncoder, Tokens
from drawn_world.files import stored
from drawn_world.in_process import DEVICE
from drawn_world.pictures.concepts import CONCEPTS, OTHER_SETS, SETS, STYLES
from drawn_world.pictures.drawing import COLOURLESS, Change, draw, drawings, more_drawings
from drawn_world.pictures.scenes import (
    BIG,
    BIG_PLACES,
    CORNERS,
    GROUNDS,
    HELD_OUT,
    NATURAL,
    OFTEN_TINTED,
    PAIRS,
    REFERENCES,
    SHARE_PAIRS,
    SMALL,
    TINTS,
    Scene,
    random_scene,
    set_of,
)
from drawn_world.training import Training, TrainingArguments
from drawn_world.words.captions import random_caption, random_told

LOG = logging.getLogger(__name__)
STEPS, BATCH = 17_000, 64
ARGUMENTS = {"learning_rate": 1.5e-3, "weight_decay": 0.05, "ema_decay": 0.0}
POOL, FRESH = 4000, 16  # pictures kept; drawn anew in each step
MOVED = 6  # pixels at most
TRIED = 600
PLACES = (*((place,) for place in (*BIG_PLACES, *CORNERS)), *PAIRS)
LABELS: dict[str, Sequence] = {
    "concept": tuple(CONCEPTS),
    "second": (None, *CONCEPTS),
    "style": tuple(STYLES),
    "set": tuple(SETS),
    "tint": (NATURAL, *TINTS),
    "places": PLACES,
    "ground": tuple(GROUNDS),
}
THINGS = ("thing", "second thing")  # what the drawings show, also of what is no concept
NUMBERS = {name: number for number, name in enumerate((*LABELS, *THINGS))}
CLOSE = ("style", "set")  # told by what is near each patch, too
UNTOLD = -100  # a label that a picture is not trained on
SHARE_MORE, SHARE_COLOURLESS, SHARE_RECOLOURED, SHARE_TURNED = 0.5, 0.2, 0.3, 0.5
COUNTS = {
    "concept": 2.0,
    "second": 0.5,
    "style": 1.5,
    "set": 0.5,
    "thing": 0.5,
    "here": 2.0,
}  # a label's loss, where not 1
ALIKE, SHARPNESS = 0.3, 10.0  # how much likeness with texts counts; how sharp it is
IMPOSSIBLE = -1e4


@functools.cache
def trained_on() -> tuple[tuple[str, ...], Tensor]:
    """All that is drawn, the concepts first, and in which sets it is trained on [things, sets]."""
    things = (*CONCEPTS, *sorted({word for word, _ in more_drawings()}))
    others = [(c, name) for c in CONCEPTS for name in OTHER_SETS if drawings().has(c, name)]
    seen = torch.zeros(len(things), len(SETS), dtype=torch.bool)
    numbers = {thing: number for number, thing in enumerate(things)}
    for thing, style in (*REFERENCES, *others, *more_drawings()):
        seen[numbers[thing], LABELS["set"].index(set_of(style))] = True
    return things, seen


@functools.cache
def squares() -> Tensor:
    """By places, of which anchors the mean is taken for each of two drawings [places, 2, anchors]."""
    at = torch.arange(0, GRID, 2) * PIXELS + PIXELS / 2
    means = torch.zeros(len(PLACES), len(THINGS), len(at), len(at))
    for places, mean in zip(PLACES, means, strict=True):
        for place, own in zip(places, mean, strict=False):
            (left, top), side = (BIG_PLACES[place], BIG) if place in BIG_PLACES else (CORNERS[place], SMALL)
            rows, columns = ((start < at) & (at < start + side) for start in (top, left))
            own[rows[:, None] & columns] = 1 / int(rows.sum() * columns.sum())
    return means.flatten(2)


def labels_of(scene: Scene) -> list[int]:
    """The numbers of a scene's values, UNTOLD where there is none."""
    concept, second = (*scene.concepts, None)[:2]
    things, _ = trained_on()
    values = (
        concept,
        second,
        scene.style,
        set_of(scene.style),
        scene.tint,
        scene.places,
        scene.ground,
        concept,
        second,
    )
    known = (*LABELS.values(), things, things)
    return [some.index(value) if value in some else UNTOLD for some, value in zip(known, values, strict=True)]


class Pictures:
    """Drawn scenes as bytes, some of which are drawn anew for every batch."""

    def __init__(self, seed: int) -> None:
        things, seen = trained_on()
        named = {own: style for style, own in STYLES.items()}
        every = [(things[thing], named.get(own, own)) for thing, at in seen.nonzero().tolist() for own in [[*SETS][at]]]
        self.drawings = [pair for pair in every if pair[0] in CONCEPTS]
        self.more = [pair for pair in every if pair[0] not in CONCEPTS]
        self.tokens, self.next = Tokens(), 0
        self.pixels = np.zeros((POOL, 96, 96, 3), np.uint8)
        self.labels = np.zeros((POOL, len(NUMBERS)), np.int64)
        self.told = np.zeros((POOL, len(NUMBERS)), bool)
        self.captions = np.zeros((POOL, SHORT), np.int64)
        self.draw(POOL // 4, random.Random(f"pool {seed}"))

    def draw(self, count: int, drawn: random.Random) -> None:
        for _ in range(count):
            row, more = self.next % POOL, drawn.random() < SHARE_MORE
            of, pairs = (self.more, 0.0) if more else (self.drawings, SHARE_PAIRS)
            scene = random_scene(drawn, of, pairs, OFTEN_TINTED)
            shift = (drawn.randint(-MOVED, MOVED), drawn.randint(-MOVED, MOVED))
            change, unseen = changed(more, scene.tint == NATURAL, drawn)
            self.pixels[row] = draw(scene, shift, change) * 255 + 0.5
            self.labels[row] = labels_of(scene)
            self.told[row] = [name not in unseen for name in NUMBERS]
            self.captions[row] = self.caption(scene, [*unseen, *["concepts"] * more], drawn)
            self.next += 1

    def caption(self, scene: Scene, unseen: Sequence[str], drawn: random.Random) -> list[int]:
        """A caption's tokens; a set without a style's name is not told."""
        unseen = [*unseen, *(() if scene.style in STYLES else ("style",))]
        while True:
            told = [name for name in random_told(drawn) if name not in unseen]
            ids = self.tokens.quick(random_caption(scene, told, drawn))
            if len(ids) <= SHORT:
                return self.tokens.padded(ids)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Pictures, all their labels, which of them count, and captions."""
        drawn = random.Random(step)
        self.draw(FRESH, drawn)
        rows = [drawn.randrange(min(self.next, POOL)) for _ in range(BATCH)]
        pixels = torch.from_numpy(self.pixels[rows]).movedim(-1, 1).float() / 255
        return pixels, *(torch.from_numpy(part[rows]) for part in (self.labels, self.told, self.captions))


def changed(more: bool, natural: bool, drawn: random.Random) -> tuple[Change, Sequence[str]]:
    """A change of drawings, and the labels that cannot be seen after it."""
    flip, lot, turns = drawn.random() < 0.5, drawn.random(), 0
    change, unseen = np.asarray, []
    if lot < SHARE_COLOURLESS:
        change, unseen = drawn.choice(COLOURLESS), ["style", "set", "tint"]
    elif lot < SHARE_COLOURLESS + SHARE_RECOLOURED and natural:
        order = [*drawn.sample(range(3), 3), 3]
        change, unseen = lambda thing: thing[..., order], ["tint"]
    if more and drawn.random() < SHARE_TURNED:
        turns, unseen = drawn.randrange(1, 4), [*unseen, *THINGS]
    return lambda thing: np.rot90(change(thing)[:, :: 1 - 2 * flip], turns), unseen


class Reading(nn.Module):
    """The encoder with a linear map for each label, and another for what is told of the neighbourhoods of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PictureEncoder()
        self.sizes = [len(known) for known in LABELS.values()]
        self.told, self.thing = nn.Linear(EMBEDDED, sum(self.sizes)), nn.Linear(EMBEDDED, len(trained_on()[0]))
        self.here, self.looked_at = nn.Linear(SEEN, len(trained_on()[0])), nn.Linear(SEEN, 1)
        self.close = nn.Linear(SEEN, sum(len(LABELS[name]) for name in CLOSE))

    def forward(self, pictures: Tensor, places: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings, and logits of each label by name; those of what is close by name and "close".

        pictures [B, 3, 96, 96]; places [B], numbers of PLACES, for what is "here" where each drawing stands [B, 2, K].
        """
        *_, near, _, _, states = self.encoder.layers(pictures, whole=False)
        embeddings = self.encoder.embedded(states)
        told = (*self.told(embeddings).float().split(self.sizes, -1), self.thing(embeddings).float())
        seen = near.seen[:, 1:]
        looks = self.looked_at(seen).float().softmax(1)
        close = self.close((seen * looks).sum(1)).float().split([len(LABELS[name]) for name in CLOSE], -1)
        named = dict(zip((*LABELS, "thing"), told, strict=True))
        spots = torch.einsum("bsn,bnc->bsc", squares().to(states.seen)[places], states.seen[:, 1:])
        named["here"] = self.here(spots).float()
        return embeddings, {**named, **{f"{name} close": logits for name, logits in zip(CLOSE, close, strict=True)}}


def possible(labels: Tensor) -> dict[str, Tensor]:
    """Of some labels, which values are ever met together with the picture's other values [B, values].

    A concept is never seen in the style that is held out of it. Without this, one would be told by the other: "no
    apple is flat".
    """
    seen = trained_on()[1].to(labels.device)
    own, concepts = labels[:, NUMBERS["set"]], len(CONCEPTS)
    by_set = seen[:concepts].T[own]
    second = labels[:, NUMBERS["second"]] - 1
    sets = seen[labels[:, NUMBERS["thing"]]] & (seen[second.clamp(min=0)] | (second < 0)[:, None])
    styles = sets[:, [LABELS["set"].index(name) for name in STYLES.values()]]
    none = torch.ones_like(by_set[:, :1])
    return {
        "concept": by_set,
        "second": torch.cat([none, by_set], 1),
        "thing": seen.T[own],
        "here": seen.T[own][:, None],
        **{f"{name}{near}": some for name, some in (("style", styles), ("set", sets)) for near in ("", " close")},
    }


def loss_of(reading: Reading, text: TextEncoder, batch: Sequence[Tensor]) -> Tensor:
    pictures, labels, told, captions = batch
    with torch.no_grad():
        pooled = text(captions)[1]
    with torch.autocast(pictures.device.type, torch.bfloat16):
        embeddings, logits = reading(pictures, labels[:, NUMBERS["places"]])
    total, may = torch.zeros((), device=pictures.device), possible(labels)
    wanted = labels.masked_fill(~told, UNTOLD)
    for name, values in logits.items():
        if name in may:
            values = values.masked_fill(~may[name], IMPOSSIBLE)
        if name == "here":
            loss = F.cross_entropy(values.flatten(0, 1), wanted[:, [NUMBERS[thing] for thing in THINGS]].flatten())
        else:
            loss = F.cross_entropy(values, wanted[:, NUMBERS[name.removesuffix(" close")]])
        total = total + COUNTS.get(name, 1.0) * loss
    alike = SHARPNESS * F.normalize(embeddings.float(), dim=-1) @ F.normalize(pooled, dim=-1).T
    own = torch.arange(len(alike), device=alike.device)
    return total + ALIKE * (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2


def train(steps: int, text: TextEncoder) -> Reading:
    torch.manual_seed(0)
    reading = Reading()
    training = Training("picture", reading, TrainingArguments(steps, **ARGUMENTS))
    pictures = Pictures(training.step)
    text = text.to(DEVICE)
    training.run(
        lambda step: loss_of(reading, text, [part.to(DEVICE) for part in pictures.batch(step)]),
        lambda: figures(reading, sorted(HELD_OUT)),
        500,
    )
    return reading


@torch.no_grad()
def figures(reading: Reading, pairs: Sequence[tuple[str, str]], count: int = TRIED) -> dict[str, float]:
    """Of scenes of these drawings, how often each attribute is told right; of one drawing and of two."""
    drawn = random.Random("tried")
    scenes = [random_scene(drawn, pairs) for _ in range(count)]
    pictures = torch.from_numpy(np.stack([draw(scene) for scene in scenes])).movedim(-1, 1).float()
    pictures = pictures.to(next(reading.parameters()).device)
    wanted = torch.tensor([labels_of(scene) for scene in scenes])
    places = wanted[:, NUMBERS["places"]].to(pictures.device)
    told = [reading(*part)[1] for part in zip(pictures.split(100), places.split(100), strict=True)]
    names = [name for name in LABELS if name != "set"]
    logits = {name: torch.cat([some[name] for some in told]).cpu() for name in (*names, "style close")}
    right = {
        name: (some.argmax(-1) == wanted[:, NUMBERS[name.removesuffix(" close")]]).float()
        for name, some in logits.items()
    }
    here, things = torch.cat([some["here"] for some in told]).cpu(), wanted[:, [NUMBERS[thing] for thing in THINGS]]
    right["here"] = (here.argmax(-1) == things)[things != UNTOLD].float()
    shares = {name: round(values.mean().item(), 3) for name, values in right.items()}
    big = torch.tensor([scene.places[0] in BIG_PLACES for scene in scenes])
    return {
        **shares,
        **{f"{name} of a big one": round(right[name][big].mean().item(), 3) for name in ("concept", "style")},
    }


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    text = TextEncoder.loaded(stored("text"))
    reading = train(steps, text)
    LOG.info("of pairs that it was trained on: %s", figures(reading, REFERENCES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
