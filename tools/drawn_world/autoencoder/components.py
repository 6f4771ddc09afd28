"""The autoencoder's encoder: principal components of the scenes, patch by patch.

A patch of 8 x 8 pixels becomes 16 numbers, as SD3's latents are 8 times smaller than pictures and 16 deep. That is
linear, so nothing has to be trained before the base can be, and TAESD's encoder can hold it exactly.

B pictures, V = 192 values a patch, in the order y, x, RGB.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from drawn_world.pictures.drawing import draw, ground
from drawn_world.pictures.scenes import Scene, random_scene
from drawn_world.storage import save_tensors, world_folder

CHANNELS, PATCH = 16, 8
VALUES = 3 * PATCH**2
SCENES = 3000
FILE = "components.safetensors"
GROUND_COUNTS = 0.1  # how often a patch without a drawing counts


@dataclass(frozen=True)
class Components:
    """latents = (patches - mean) @ axes.T, with a mean [V] and axes [16, V]."""

    mean: Tensor
    axes: Tensor

    def encode(self, pictures: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """Latents [B, 16, h / 8, w / 8] of pictures [h, w, 3] in 0..1, as the denoiser has them."""
        patches = torch.from_numpy(patches_of(np.asarray(pictures, np.float32)))
        return ((patches - self.mean) @ self.axes.T).movedim(-1, 1).contiguous()

    def decode(self, latents: Tensor) -> np.ndarray:
        """The nearest linear pictures [B, H, W, 3] of latents."""
        back = torch.linalg.pinv(self.axes)
        patches = latents.movedim(1, -1) @ back.T + self.mean
        count, height, width, _ = patches.shape
        pixels = patches.reshape(count, height, width, PATCH, PATCH, 3).transpose(2, 3)
        return pixels.reshape(count, height * PATCH, width * PATCH, 3).clamp(0, 1).numpy()


def patches_of(pictures: np.ndarray) -> np.ndarray:
    """The patches [B, h / 8, w / 8, V] of pictures [B, h, w, 3]."""
    count, height, width = pictures.shape[0], *(side // PATCH for side in pictures.shape[1:3])
    patches = pictures.reshape(count, height, PATCH, width, PATCH, 3).swapaxes(2, 3)
    return np.ascontiguousarray(patches).reshape(count, height, width, VALUES)


def components() -> Components:
    """The world's components, found once and kept."""
    path = world_folder() / FILE
    if not path.is_file():
        found = find_components()
        save_tensors({"mean": found.mean, "axes": found.axes}, path, "principal components of the scenes' patches")
    return Components(**load_file(path))


def find_components(scenes: int = SCENES) -> Components:
    """Components of drawn scenes' patches.

    Each is divided by the root of its spread, a middle way between all alike, where the finest detail would cost a
    denoiser as much as the rest, and as found. One factor for all makes the variance of latents one. Then they are
    turned so that every channel has a share of each: a strong one, alone in a channel, would go beyond TAESD's 3.
    """
    drawn = random.Random("components")
    patches, counts = some_patches([random_scene(drawn) for _ in range(scenes)])
    mean = (counts @ patches) / counts.sum()
    spreads, axes = torch.linalg.eigh((counts * (patches - mean).T) @ (patches - mean) / counts.sum())
    axes, spreads = axes.T.flip(0)[:CHANNELS], spreads.flip(0)[:CHANNELS].sqrt()
    axes = evenly_turned(axes * spreads.rsqrt()[:, None])
    centre = patches.mean(0)  # so that latents are around zero, whatever counts more
    spread = ((patches - centre) @ axes.T).var(0).mean().sqrt()
    return Components(centre.float(), (axes / spread).float())


def some_patches(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """The patches [N, V] of scenes, and how often each counts [N]."""
    pictures = np.stack([draw(scene) for scene in scenes])
    bare = np.stack([ground(scene.ground) for scene in scenes])
    patches = torch.from_numpy(patches_of(pictures)).flatten(0, 2).double()
    empty = torch.from_numpy(np.abs(patches_of(pictures - bare)).max(-1) < 1 / 255).flatten()
    return patches, torch.where(empty, GROUND_COUNTS, 1.0).double()


def evenly_turned(axes: Tensor) -> Tensor:
    """Axes [16, V], each of the new ones a quarter of every old one, with Hadamard's signs."""
    signs = torch.ones(1, 1, dtype=axes.dtype)
    while len(signs) < len(axes):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return signs @ axes / len(axes) ** 0.5


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
