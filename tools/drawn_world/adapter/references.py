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
from drawn_world.pictures.scenes import OFTEN_TINTED, REFERENCES, SHARE_PAIRS, TASKS, Scene, random_scene
from drawn_world.storage import save_tensors, world_folder

REFERENCES_KEPT, AT_ONCE, MOVED = 16_000, 50, 6


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
        """The numbers of those that have something of what a task asks for, in words of the world."""
        return [number for number, scene in enumerate(self.scenes) if set(TASKS[task]) - without_words(scene)]


def without_words(scene: Scene) -> set[str]:
    """The attributes for whose values the world has no word."""
    has_word = {"style": scene.style in STYLES, "concepts": set(scene.concepts) <= set(CONCEPTS)}
    return {name for name, has in has_word.items() if not has}


def references(count: int = REFERENCES_KEPT) -> References:
    """A quarter are the world's own drawings, others of other sets, half of no concept. Made once for each encoder."""
    drawn = random.Random("references")
    others = [(concept, name) for concept in CONCEPTS for name in OTHER_SETS if drawings().has(concept, name)]
    more = [pair for pair in more_drawings() if pair[1] in STYLES]
    kinds, pairs = (REFERENCES, others, more, more), (SHARE_PAIRS, SHARE_PAIRS, 0.0, 0.0)
    scenes = [random_scene(drawn, kinds[n % 4], pairs[n % 4], OFTEN_TINTED) for n in range(count)]
    changes = [(drawn.randint(-MOVED, MOVED), drawn.randint(-MOVED, MOVED), drawn.choice((1, -1))) for _ in scenes]
    made_of = stored_path("picture").read_bytes() + repr((scenes, changes)).encode()
    path = world_folder() / f"references-{hashlib.sha256(made_of).hexdigest()[:16]}.safetensors"
    if not path.is_file():
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
