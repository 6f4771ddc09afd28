"""Pictures as encoders were trained to see them.

Pillow resizes, as published scores have it; ComfyUI's image encoders are shown other pixels, which moves a score's
third digit. Axes: N pictures, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Turns pictures into pixels: by a shorter side, the square in the middle, and how colours are normalised."""

    shorter_side: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return normalised pixels [N, 3, side, side], float32."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return torch.stack([(pixels(self._cut(picture)) - mean) / std for picture in pictures])

    def _cut(self, picture: Image.Image) -> Image.Image:
        width, height = picture.size
        short, long = sorted(picture.size)
        longer = int(self.shorter_side * long / short)
        size = (self.shorter_side, longer) if width <= height else (longer, self.shorter_side)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = ((length - self.side) // 2 for length in picture.size)
        return picture.crop((left, top, left + self.side, top + self.side))


def pixels(picture: Image.Image) -> Tensor:
    """Return an RGB picture as [3, H, W] in 0..1, float32."""
    width, height = picture.size
    values = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return values.view(height, width, 3).movedim(-1, 0).float() / 255


def opened(path: Path) -> Image.Image:
    """Return a picture as RGB; what is transparent is white. Raises ValueError for a file that is none."""
    try:
        with Image.open(path) as picture:
            if "A" in picture.getbands() or "transparency" in picture.info:
                paper = Image.new("RGBA", picture.size, "white")
                return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
            return picture.convert("RGB")
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        raise ValueError(f"{path} was expected to be a picture; it cannot be read ({error}).") from error
