"""Reference pictures and texts as adapters are given them, without the channels that are zero.

N pictures of 257 states, 163 channels; texts of 77 states, 128 channels.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from drawn_world.encoders.picture import PictureEncoder
from drawn_world.encoders.text import LENGTH, SHORT, TextEncoder, Tokens
from drawn_world.files import encoder_of, stored, stored_path
from drawn_world.pictures.concepts import CONCEPTS, OTHER_SETS, STYLES
from drawn_world.pictures.drawing import draw, drawings, more_drawings
from drawn_world.pictures.scenes import REFERENCES, SHARE_PAIRS, TASKS, Scene, random_scene
from drawn_world.storage import save_tensors, world_folder

REFERENCES_KEPT, AT_ONCE, MOVED = 10_000, 50, 6


def picture_encoder() -> PictureEncoder:
    encoder = PictureEncoder()
    encoder.load_state_dict(encoder_of(stored("picture")))
    return encoder.eval().requires_grad_(False)


@dataclass(frozen=True)
class References:
    """Scenes that are no pair held out, and the states of a picture of each, fp16."""

    scenes: Sequence[Scene]
    states: Tensor

    def for_task(self, task: str) -> list[int]:
        """The numbers of those that have all that a task asks for, in words of the world."""
        asked = TASKS[task]
        return [
            number
            for number, scene in enumerate(self.scenes)
            if ("style" not in asked or scene.style in STYLES)
            and ("concepts" not in asked or all(concept in CONCEPTS for concept in scene.concepts))
        ]


def references(count: int = REFERENCES_KEPT) -> References:
    """Half are of the five styles, others of other sets, or of no concept of the world. Made once for an encoder."""
    drawn = random.Random("references")
    others = [(concept, name) for concept in CONCEPTS for name in OTHER_SETS if drawings().has(concept, name)]
    more = [pair for pair in more_drawings() if pair[1] in STYLES]
    kinds = (REFERENCES, others, REFERENCES, more)
    scenes = [random_scene(drawn, kinds[n % 4], 0.0 if n % 4 == 3 else SHARE_PAIRS) for n in range(count)]
    encoder = hashlib.sha256(stored_path("picture").read_bytes()).hexdigest()[:8]
    path = world_folder() / f"references-{count}-{encoder}.safetensors"
    if not path.is_file():
        changes = [(drawn.randint(-MOVED, MOVED), drawn.randint(-MOVED, MOVED), drawn.choice((1, -1))) for _ in scenes]
        pictures = (changed(*both) for both in zip(scenes, changes, strict=True))
        save_tensors({"states": states_of(picture_encoder(), pictures)}, path, "reference pictures' states")
    return References(scenes, load_file(path)["states"])


def changed(scene: Scene, change: tuple[int, int, int]) -> np.ndarray:
    """A scene whose drawings are moved a little, and mirrored or not, so that none is known by heart."""
    across, down, flip = change
    return draw(scene, (across, down), lambda thing: thing[:, ::flip])


@torch.no_grad()
def states_of(encoder: PictureEncoder, pictures: Iterable[np.ndarray]) -> Tensor:
    """[N, 257, 163], fp16"""
    found, rest = [], iter(pictures)
    while some := list(islice(rest, AT_ONCE)):
        found.append(encoder.states(torch.from_numpy(np.stack(some)).movedim(-1, 1).float()).half())
    return torch.cat(found)


def blank_states() -> Tensor:
    """Those of the picture that stands for none, [257, 163]."""
    return picture_encoder().states(torch.full((1, 3, 96, 96), 0.5))[0]


class Readable:
    """Texts as resamplers read them: after CLIP-L's last norm."""

    def __init__(self) -> None:
        self.encoder, self.tokens = TextEncoder.loaded(stored("text")), Tokens()

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> Tensor:
        """[N, 77, 128]"""
        short = self.encoder.both(torch.tensor([self.tokens.ids(text) for text in texts]))[1]
        return torch.cat([short, short[:, -1:].expand(-1, LENGTH - SHORT, -1)], 1)


def wide(states: Tensor, width: int) -> Tensor:
    """States with the channels that are zero."""
    return F.pad(states.float(), (0, width - states.shape[-1]))
