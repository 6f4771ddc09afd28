"""Check images and masks that a user connects, and turn them into the pixels that an image encoder takes.

Axes: B images, H height, W width, C channels; F masks, one for each latent or image, or one for all.
"""

from functools import partial

import comfy.clip_vision
import torch
import torch.nn.functional as F
from torch import Tensor

CENTER_CROP, PAD, STRETCH = "center crop", "pad", "stretch"
FITS = (CENTER_CROP, PAD, STRETCH)
MOST_CHANNELS = 4


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `image` is a batch of finite images, [B, H, W, 3 or 4]."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[-1] not in (3, 4):
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"The image was expected to be [batch, height, width, 3 or 4 channels]; it is {found}. "
            "Connect the IMAGE of a Load Image node, or convert what is connected to RGB."
        )
    if 0 in image.shape:
        raise ValueError(
            f"At least one picture was expected; the image batch is empty ({list(image.shape)}). "
            "Check the node that made this batch."
        )
    if not torch.isfinite(image).all():
        raise ValueError(
            "The image was expected to hold values from 0 to 1; some are not numbers (NaN or infinite). "
            "Check the node it comes from: a VAE that overflowed in half precision is the usual cause."
        )


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


def pixel_values(clip_vision, image: Tensor, mask: Tensor | None, fit: str) -> Tensor:
    """Return normalised pixels [B, 3, size, size] of image [B, H, W, C] in 0..1 and mask [B or 1, h, w] or None.

    Pixels that the mask leaves out, and those that padding adds, are zero after normalisation.
    """
    image, coverage = image[..., :3].float(), None
    if mask is not None:
        masks = mask_batch(mask, "image_mask").unsqueeze(1)
        coverage = F.interpolate(masks, size=tuple(image.shape[1:3]), mode="bilinear").squeeze(1)
    if fit == PAD:
        image, coverage = _pad_to_square(image, coverage)
    preprocess = partial(comfy.clip_vision.clip_preprocess, size=clip_vision.image_size, crop=fit != STRETCH)
    pixels = preprocess(image, mean=clip_vision.image_mean, std=clip_vision.image_std)
    if coverage is None:
        return pixels
    covered = coverage.unsqueeze(-1).expand(-1, -1, -1, 3)
    return pixels * preprocess(covered, mean=[0.0] * 3, std=[1.0] * 3).to(pixels)


def _pad_to_square(image: Tensor, coverage: Tensor | None) -> tuple[Tensor, Tensor | None]:
    height, width = image.shape[1:3]
    if height == width:
        return image, coverage
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    padding = (left, side - width - left, top, side - height - top)
    if coverage is None:
        coverage = torch.ones(1, height, width, device=image.device)
    padded = F.pad(image.movedim(-1, 1), padding, mode="replicate").movedim(1, -1)  # no ringing at the edge
    return padded, F.pad(coverage, padding)
