"""Reference pictures' states for training, encoded once and kept on disk.

Each scene that may be learnt is drawn several times, so that a reference is never known by its noise.
N pictures, 257 states 1280 wide.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from small_world.check_encoders import picture_states
from small_world.encoders import ENCODERS
from small_world.scenes import ATTRIBUTES, Scene, is_held_out, scene_of
from small_world.storage import save_tensors, world_folder

REFERENCES = 4096
AT_ONCE = 64
STATES, WIDTH = 257, 1280


@dataclass(frozen=True)
class References:
    """Scenes with the states of a picture of each, fp16 and read from the file when they are asked for."""

    scenes: tuple[Scene, ...]
    path: Path

    def hidden_states(self, numbers: Sequence[int]) -> Tensor:
        """[N, 257, 1280]"""
        with safe_open(self.path, "pt") as file:
            rows = file.get_slice("states")
            return torch.stack([rows[number] for number in numbers])


def all_scenes() -> list[Scene]:
    """Every scene of one thing."""
    names = list(ATTRIBUTES)
    return [scene_of(dict(zip(names, values, strict=True))) for values in product(*ATTRIBUTES.values())]


def references(count: int = REFERENCES, name: str = "references") -> References:
    """Pictures of scenes that are not held out; their file is made when it is not there."""
    drawn, learnt = random.Random(name), scenes_to_learn()
    drawn.shuffle(learnt)
    scenes = tuple(learnt[number % len(learnt)] for number in range(count))
    path = world_folder() / f"{name}-{count}.safetensors"
    if not path.is_file():
        starts = range(0, count, AT_ONCE)
        states = [picture_states(scenes[at : at + AT_ONCE], drawn) for at in starts]
        save_tensors({"states": torch.cat(states).unflatten(1, (STATES, WIDTH))}, path, "states of reference pictures")
    return References(scenes, path)


def drawing_of(pool: References) -> random.Random:
    """The generator with which the pool's pictures are drawn, one after another."""
    drawn = random.Random(pool.path.stem.rpartition("-")[0])
    drawn.shuffle(scenes_to_learn())
    return drawn


def scenes_to_learn() -> list[Scene]:
    return [scene for scene in all_scenes() if not is_held_out(scene)]


def blank_hidden_states() -> Tensor:
    """[1, 257, 1280]: the states of a picture that is zero after normalisation."""
    from ipadapter_instruct.models.encoding.image_encoder import encode_pixels

    from small_world.check_encoders import short_image_encoder

    return encode_pixels(short_image_encoder(ENCODERS["picture"].built()), torch.zeros(1, 3, 224, 224)).hidden_states


def main() -> int:
    print(references().path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
