"""Turn images into the pixels that an image encoder takes.

Axes: B images, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import comfy.clip_vision
import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import mask_batch

CENTER_CROP, PAD, STRETCH = "center crop", "pad", "stretch"
FITS = (CENTER_CROP, PAD, STRETCH)


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


def check_mask(mask: Tensor, images: int) -> None:
    """Raises ValueError unless `mask` is finite and one, or as many as the images."""
    masks = len(mask_batch(mask, "image_mask"))
    if masks not in (1, images):
        raise ValueError(
            f"image_mask was expected to be one mask for all, or one for each of the {images} picture(s); it is "
            f"{masks} masks. Connect a single mask, or a batch as long as the image's."
        )


def pixel_values(clip_vision, image: Tensor, mask: Tensor | None, fit: str) -> Tensor:
    """Return normalised pixels [B, 3, size, size] of image [B, H, W, C] in 0..1 and mask [B or 1, h, w] or None.

    Pixels that the mask leaves out, and those that padding adds, are zero after normalisation.
    """
    image = image[..., :3].float()
    coverage = None if mask is None else _resize(mask, image.shape[1:3])
    if fit == PAD:
        image, coverage = _pad_to_square(image, coverage)
    crop = fit != STRETCH
    pixels = _preprocess(image, clip_vision.image_size, clip_vision.image_mean, clip_vision.image_std, crop)
    if coverage is None:
        return pixels
    covered = coverage.unsqueeze(-1).expand(-1, -1, -1, 3)
    return pixels * _preprocess(covered, clip_vision.image_size, [0.0] * 3, [1.0] * 3, crop).to(pixels)


def _preprocess(image: Tensor, size: int, mean: list[float], std: list[float], crop: bool) -> Tensor:
    return comfy.clip_vision.clip_preprocess(image, size=size, mean=mean, std=std, crop=crop)


def _resize(mask: Tensor, size: Sequence[int]) -> Tensor:
    mask = mask_batch(mask, "image_mask").unsqueeze(1)
    return F.interpolate(mask, size=tuple(size), mode="bilinear").squeeze(1)


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
