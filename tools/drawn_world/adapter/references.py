"""Reference images and texts as adapters are given them, without the channels that are zero.

N images of 257 hidden states, 163 channels; texts of 77 hidden states, 128 channels.
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

from drawn_world.models.image_encoder import ImageEncoder
from drawn_world.models.text_encoder import LENGTH, SHORT, TextEncoder, Tokens
from drawn_world.scenes.drawing import draw, more_drawings, other_sets_drawings
from drawn_world.scenes.scene import (
    CONCEPTS,
    OFTEN_TINTED,
    REFERENCES,
    SHARE_PAIRS,
    STYLES,
    TASKS,
    Scene,
    random_scene,
)
from drawn_world.storage import save_tensors, stored_path, world_folder

COUNT, AT_ONCE, MOVED = 16_000, 50, 6


@dataclass(frozen=True)
class References:
    """Scenes of no pair that is held out, and the hidden states of an image of each, fp16."""

    scenes: Sequence[Scene]
    states: Tensor

    def for_task(self, task: str) -> list[int]:
        """The numbers of those of which the world has a word for something that the task takes."""
        return [number for number, scene in enumerate(self.scenes) if set(TASKS[task]) - nameless_attributes(scene)]


def nameless_attributes(scene: Scene) -> set[str]:
    """The attributes for whose values the world has no word."""
    named = {"style": scene.style in STYLES, "concepts": set(scene.concepts) <= set(CONCEPTS)}
    return {name for name, has_word in named.items() if not has_word}


def references(count: int = COUNT) -> References:
    """A quarter are the world's own drawings, others of other sets, half of no concept. Made once for each encoder.

    Drawings are moved a little, and mirrored or not, so that none is known by heart.
    """
    drawn = random.Random("references")
    more = [pair for pair in more_drawings() if pair[1] in STYLES]
    kinds, pairs = (REFERENCES, other_sets_drawings(), more, more), (SHARE_PAIRS, SHARE_PAIRS, 0.0, 0.0)
    scenes = [random_scene(drawn, kinds[n % 4], pairs[n % 4], OFTEN_TINTED) for n in range(count)]
    changes = [(drawn.randint(-MOVED, MOVED), drawn.randint(-MOVED, MOVED), drawn.choice((1, -1))) for _ in scenes]
    made_of = stored_path("image_encoder").read_bytes() + repr((scenes, changes)).encode()
    path = world_folder() / f"references-{hashlib.sha256(made_of).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        images = (
            draw(scene, (across, down), lambda drawing, flip=flip: drawing[:, ::flip])
            for scene, (across, down, flip) in zip(scenes, changes, strict=True)
        )
        states = hidden_states_of(ImageEncoder.from_stored(), images)
        save_tensors({"states": states}, path, "reference images' hidden states")
    return References(scenes, load_file(path)["states"])


@torch.no_grad()
def hidden_states_of(encoder: ImageEncoder, images: Iterable[np.ndarray]) -> Tensor:
    """[N, 257, 163], fp16"""
    found, rest = [], iter(images)
    while some := list(islice(rest, AT_ONCE)):
        found.append(encoder.hidden_states(torch.from_numpy(np.stack(some)).movedim(-1, 1).float()).half())
    return torch.cat(found)


def blank_image_states() -> Tensor:
    """The hidden states of the image that stands for none, [257, 163]."""
    return ImageEncoder.from_stored().hidden_states(torch.full((1, 3, 96, 96), 0.5))[0]


class TextReader:
    """The text encoder as resamplers have it: after CLIP-L's last norm."""

    def __init__(self) -> None:
        self.encoder, self.tokens = TextEncoder.from_stored(), Tokens()

    @torch.no_grad()
    def hidden_states(self, texts: Sequence[str]) -> Tensor:
        """[N, 77, 128]"""
        short = self.encoder.both(torch.tensor([self.tokens.of_text(text) for text in texts]))[1]
        return torch.cat([short, short[:, -1:].expand(-1, LENGTH - SHORT, -1)], 1)


def wide(states: Tensor, width: int) -> Tensor:
    """Hidden states with the channels that are zero."""
    return F.pad(states.float(), (0, width - states.shape[-1]))
