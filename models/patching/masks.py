"""Attention masks: where in the picture an adapter acts.

Axes: F frames, C chunks of a batch, b latents of a chunk, N image positions of a site.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .kept import Kept

MOST_CHANNELS = 4
Area = tuple[int, int, int, int] | None
"""The part of the latent a conditioning covers, as (height, width, top, left); None for all of it."""


def mask_frames(mask: Tensor, name: str) -> Tensor:
    """A MASK [F, H, W] or [H, W], with or without a channel axis behind or before H, W -> [F, H, W] in 0..1.

    Further axes of one entry may stand in front. Three axes are always [F, H, W], ComfyUI's order.
    name: the input it came by, for the message. Raises ValueError for anything else, for none of it and for NaN.
    """
    found, remedy = _not_a_mask(mask)
    if found:
        raise ValueError(
            f"{name} was expected to be a mask of values from 0 to 1, [frames, height, width]; it is {found}. "
            f"{remedy}, or leave {name} unconnected."
        )
    if _channels(mask.shape):
        mask = mask.squeeze(-1)
    return mask.reshape(-1, *mask.shape[-2:]).float().clamp(0, 1)


def _channels(shape: torch.Size) -> int:
    """How many channels [..., H, W, C] has; 0 for [F, 1, H, W], which has its one before the height, as the host's own
    masks of latents do, and for whatever has no such axis."""
    return shape[-1] if len(shape) > 3 and shape[-3] != 1 and shape[-1] <= MOST_CHANNELS else 0


def _not_a_mask(mask: object) -> tuple[str, str]:
    """What it is instead, and what to do; nothing for a mask."""
    check = "Check the node it comes from"
    if not isinstance(mask, Tensor):
        return type(mask).__name__, check
    shape, channels = list(mask.shape), _channels(mask.shape)
    if channels > 1:
        return f"{shape}, a picture of {channels} channels", "Put Convert Image to Mask between"
    frames = shape[:-3] if channels else shape[:-2]
    if len(shape) < 2 or 0 in shape or sum(count > 1 for count in frames) > 1:
        return str(shape), check
    if not torch.isfinite(mask).all():
        return f"{shape} with values that are not numbers (NaN or infinite)", check
    return "", ""


KEPT = 256  # 0.3 MB each for 16 frames of 4,096 positions in two chunks, fp16


class SiteMasks:
    """One mask [F, H, W], brought to the resolution of each site when first asked for.

    Sizes are averaged over, so that masks which tile the plane still do so at every resolution.
    """

    def __init__(self, mask: Tensor):
        self._mask = mask
        self._made: Kept[Tensor] = Kept(KEPT)  # windows of frames that move from step to step ask for ever new ones

    @property
    def frames(self) -> int:
        """How many latents have a mask of their own, from the first on again; 1: all have the same."""
        return len(self._mask)

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
