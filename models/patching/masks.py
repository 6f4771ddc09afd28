"""The attention masks: where in the image an adapter acts.

Axes: F latents with a mask of their own, C chunks of a batch, b latents of a chunk, N image positions of a site.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounded_cache import RunCache
from ..denoisers.rows import Area

MOST_CACHED = 256  # 0.3 MB each for 16 frames of 4,096 positions in two chunks, fp16


class SiteMasks:
    """One mask [F, H, W], brought to the resolution of each site when first asked for.

    Sizes are averaged over, so that masks which tile the plane still do so at every resolution.
    """

    def __init__(self, mask: Tensor):
        self._mask = mask
        # Windows of frames that move from step to step ask for ever new ones.
        self._cached: RunCache[Tensor] = RunCache(MOST_CACHED)

    @property
    def latents(self) -> int:
        """The number of latents that have a mask of their own, from the first on again; 1: all have the same."""
        return len(self._mask)

    def at(
        self,
        site_size: tuple[int, int],
        latent_size: tuple[int, int],
        areas: Sequence[Area],
        batch_indices: Sequence[int],
        like: Tensor,
    ) -> Tensor:
        """Return factors [C b, N, 1] for a call's rows: `areas` has one entry a chunk, `batch_indices` one a latent."""
        key = (site_size, latent_size, tuple(areas), tuple(batch_indices), like.device, like.dtype)

        def make() -> Tensor:
            return torch.cat([self._chunk(site_size, latent_size, area, batch_indices) for area in areas]).to(like)

        return self._cached.get(key, make)

    def _chunk(
        self, site_size: tuple[int, int], latent_size: tuple[int, int], area: Area, batch_indices: Sequence[int]
    ) -> Tensor:
        mask = self._mask[[batch_index % len(self._mask) for batch_index in batch_indices]].unsqueeze(1)
        if area is not None:
            height, width, top, left = area
            mask = F.interpolate(mask, size=latent_size, mode="area")
            mask = mask[..., top : top + height, left : left + width]
        mask = F.interpolate(mask, size=site_size, mode="area")  # [b, 1, h, w]
        return mask.flatten(2).transpose(1, 2)
