"""The autoencoder's encoder: principal components of the scenes, patch by patch.

A patch of 8 x 8 pixels becomes 16 numbers, as SD3's latents are 8 times smaller than pictures and 16 deep. That is
linear, so nothing has to be trained before the base can be, and TAESD's encoder can hold it exactly.

B pictures, P = 8 x 8 patches a picture, V = 192 values a patch, in the order y, x, RGB.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from small_world.drawing import SIDE, draw
from small_world.scenes import scene_to_learn
from small_world.storage import save_tensors, world_folder

CHANNELS, PATCH = 16, 8
ACROSS = SIDE // PATCH
VALUES = 3 * PATCH**2
SCENES, PAIRS = 1500, 0.12
COLOURED, COLOURED_COUNT = 0.2, 8.0  # a patch with a thing, by its strongest colour, and how often it counts


@dataclass(frozen=True)
class Components:
    """latents = (patches - mean) @ axes.T, with a mean [V] and axes [16, V]."""

    mean: Tensor
    axes: Tensor

    def encode(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Latents [B, 16, h / 8, w / 8] of pictures [h, w, 3] in 0..1, as the denoiser has them."""
        patches = torch.from_numpy(np.stack([patches_of(picture) for picture in pictures])).float()
        return ((patches - self.mean) @ self.axes.T).movedim(-1, 1)


def patches_of(picture: np.ndarray) -> np.ndarray:
    """The patches [h / 8, w / 8, V] of a picture [h, w, 3]."""
    height, width = (side // PATCH for side in picture.shape[:2])
    return picture.reshape(height, PATCH, width, PATCH, 3).swapaxes(1, 2).reshape(height, width, VALUES)


def components() -> Components:
    """The world's components, found once and kept."""
    path = components_path()
    if not path.is_file():
        found = find_components()
        save_tensors({"mean": found.mean, "axes": found.axes}, path, "principal components of the scenes' patches")
    return Components(**load_file(path))


def components_path() -> Path:
    return world_folder() / "components.safetensors"


def find_components(scenes: int = SCENES, seed: str = "components") -> Components:
    """Components of drawn scenes' patches.

    Patches with a thing are few and count more. Each component is divided by the root of its spread, a middle way
    between all alike, where the finest detail would cost a denoiser as much as the rest, and as found. One factor for
    all makes the variance of latents one. Then they are turned so that every channel has a share of each: strong
    colours, alone in a channel, would go to 9, and TAESD's decoder cuts off at 3.
    """
    drawn = random.Random(seed)
    pictures = [draw(scene_to_learn(drawn, PAIRS), drawn) for _ in range(scenes)]
    patches = torch.from_numpy(np.stack([patches_of(picture) for picture in pictures])).double().flatten(0, 2)
    counts = 1 + (COLOURED_COUNT - 1) * has_thing(patches)
    mean = (counts @ patches) / counts.sum()
    spreads, axes = torch.linalg.eigh((counts * (patches - mean).T) @ (patches - mean) / counts.sum())
    axes, spreads = axes.T.flip(0)[:CHANNELS], spreads.flip(0)[:CHANNELS].sqrt()
    axes = evenly_turned(axes * spreads.rsqrt()[:, None])
    centre = patches.mean(0)  # so that latents are around zero, whatever counts more
    spread = ((patches - centre) @ axes.T).var(0).mean().sqrt()
    return Components(centre.float(), (axes / spread).float())


def evenly_turned(axes: Tensor) -> Tensor:
    """Axes [16, V], each of the new ones a quarter of every old one, with Hadamard's signs."""
    signs = torch.ones(1, 1, dtype=axes.dtype)
    while len(signs) < len(axes):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return signs @ axes / len(axes) ** 0.5


def has_thing(patches: Tensor) -> Tensor:
    pixels = patches.unflatten(-1, (-1, 3))
    return ((pixels.amax(-1) - pixels.amin(-1)).amax(-1) > COLOURED).double()


def encoder_weights(found: Components, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for TAESD's encoder that compute just these components; `weights` has the shapes, by name.

    All blocks are identities. Each of the first two halvings puts four pixels' values side by side: 12 and 48 of 64
    channels. The third takes the components, each once with either sign, since a ReLU follows.
    """
    made = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    made["0.weight"][range(3), range(3), 1, 1] = 1.0
    for name, channels in (("2.weight", 3), ("6.weight", 12)):
        for quarter in range(4):
            rows = torch.arange(channels) + quarter * channels
            made[name][rows, range(channels), 1 + quarter // 2, 1 + quarter % 2] = 1.0
    axes = in_quarters(found.axes)
    for quarter in range(4):
        for sign, first in ((1, 0), (-1, 1)):
            rows = slice(first, 2 * CHANNELS, 2)
            made["10.weight"][rows, :48, 1 + quarter // 2, 1 + quarter % 2] = sign * axes[:, quarter]
    for sign, first in ((1, 0), (-1, 1)):
        made["14.weight"][range(CHANNELS), range(first, 2 * CHANNELS, 2), 1, 1] = sign
    made["14.bias"] = -(found.axes @ found.mean)
    return made


def in_quarters(axes: Tensor) -> Tensor:
    """Axes [16, V] as [16, 4, 48]: by quarters of a patch, each in the order in which two halvings lay it out."""
    values = axes.reshape(CHANNELS, 2, 2, 2, 2, 2, 2, 3)  # y in bits of 4, 2, 1; x likewise; RGB
    return values.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(CHANNELS, 4, 48)
