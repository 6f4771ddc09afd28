"""Attention masks: where in the picture an adapter acts.

Axes: F frames, C chunks of a batch, b latents of a chunk, N image positions of a site.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .kept import Kept

Area = tuple[int, int, int, int] | None
"""The part of the latent a conditioning covers, as (height, width, top, left); None for all of it."""


def mask_frames(mask: Tensor, name: str) -> Tensor:
    """A MASK of any leading dimensions -> [F, H, W] in 0..1. Raises ValueError for none of it or for NaN.

    name: the input it came by, for the message.
    """
    finite = bool(torch.isfinite(mask).all())
    if mask.ndim < 2 or 0 in mask.shape or not finite:
        raise ValueError(
            f"{name} was expected to be a mask of values from 0 to 1, [frames, height, width]; it is "
            f"{list(mask.shape)}{'' if finite else ' with values that are not numbers (NaN or infinite)'}. "
            f"Check the node it comes from, or leave {name} unconnected."
        )
    return mask.reshape(-1, *mask.shape[-2:]).float().clamp(0, 1)


KEPT = 256  # 0.3 MB each for 16 frames of 4,096 positions in two chunks, fp16


class SiteMasks:
    """One mask [F, H, W], brought to the resolution of each site when first asked for.

    Sizes are averaged over, so that masks which tile the plane still do so at every resolution.
    """

    def __init__(self, mask: Tensor):
        self._mask = mask
        self._made: Kept[Tensor] = Kept(KEPT)  # windows of frames that move from step to step ask for ever new ones

    def at(
        self,
        site_size: tuple[int, int],
        latent_size: tuple[int, int],
        areas: Sequence[Area],
        frames: Sequence[int],
        like: Tensor,
    ) -> Tensor:
        """Factors for the rows of a batch, [C b, N, 1]: `areas` has one entry a chunk, `frames` one a latent."""
        key = (site_size, latent_size, tuple(areas), tuple(frames), like.device, like.dtype)

        def make() -> Tensor:
            return torch.cat([self._chunk(site_size, latent_size, area, frames) for area in areas]).to(like)

        return self._made.get(key, make)

    def _chunk(
        self, site_size: tuple[int, int], latent_size: tuple[int, int], area: Area, frames: Sequence[int]
    ) -> Tensor:
        mask = self._mask[[frame % len(self._mask) for frame in frames]].unsqueeze(1)
        if area is not None:
            height, width, top, left = area
            mask = F.interpolate(mask, size=latent_size, mode="area")
            mask = mask[..., top : top + height, left : left + width]
        mask = F.interpolate(mask, size=site_size, mode="area")  # [b, 1, h, w]
        return mask.flatten(2).transpose(1, 2)
