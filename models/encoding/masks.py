"""Masks that a user connects, brought to one form.

Axes: F masks, one for each latent or image, or one for all.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_CHANNELS = 4


def mask_batch(mask: Tensor, name: str) -> Tensor:
    """Return as [F, H, W] in 0..1 a MASK [F, H, W] or [H, W], with or without a channel axis behind or before H, W.

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
    """Return how many channels [..., H, W, C] has; 0 for whatever has no such axis.

    It is 0 for [F, 1, H, W], too, which has its one before the height, as the host's own masks of latents do.
    """
    return shape[-1] if len(shape) > 3 and shape[-3] != 1 and shape[-1] <= MOST_CHANNELS else 0


def _not_a_mask(mask: object) -> tuple[str, str]:
    """Say what is there instead of a mask, and what to do; nothing for a mask."""
    check = "Check the node it comes from"
    if not isinstance(mask, Tensor):
        return type(mask).__name__, check
    shape, channels = list(mask.shape), _channels(mask.shape)
    if channels > 1:
        return f"{shape}, a picture of {channels} channels", "Put Convert Image to Mask between"
    in_batch = shape[:-3] if channels else shape[:-2]
    if len(shape) < 2 or 0 in shape or sum(count > 1 for count in in_batch) > 1:
        return str(shape), check
    if not torch.isfinite(mask).all():
        return f"{shape} with values that are not numbers (NaN or infinite)", check
    return "", ""
