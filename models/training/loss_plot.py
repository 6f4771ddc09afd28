"""The losses of a run as an image."""

from collections.abc import Sequence

import torch
from torch import Tensor

SIZE, MARGIN = (640, 360), 48
INK, PALE, LINE = (40, 40, 40), (190, 205, 230), (40, 90, 190)
SMOOTHED = 0.97


def loss_plot(losses: Sequence[float], size: tuple[int, int] = SIZE) -> Tensor:
    """Draw the losses of steps 1, 2 ... as [1, H, W, 3] in 0..1: each as it was, pale, and a running mean of them."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    smooth = running_mean(losses)
    low, high = (min(losses), max(losses)) if losses else (0.0, 1.0)
    high = high if high > low else low + 1.0
    left, top, right, bottom = MARGIN, MARGIN, size[0] - MARGIN, size[1] - MARGIN
    for values, colour, thickness in ((losses, PALE, 1), (smooth, LINE, 2)):
        columns = [left + (right - left) * n / max(1, len(values) - 1) for n in range(len(values))]
        rows = [top + (bottom - top) * (high - value) / (high - low) for value in values]
        if len(values) > 1:
            pen.line(list(zip(columns, rows, strict=True)), colour, thickness)
    pen.line([(left, top), (left, bottom), (right, bottom)], INK, 1)
    for text, place in (
        (f"{high:.4g}", (4, top - 6)),
        (f"{low:.4g}", (4, bottom - 6)),
        ("1", (left, bottom + 6)),
        (f"{len(losses)} steps", (right - 50, bottom + 6)),
        (f"loss, last mean {smooth[-1]:.4g}" if losses else "loss", (left, 14)),
    ):
        pen.text(place, text, INK)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, size[1], size[0], 3).float() / 255


def running_mean(values: Sequence[float], kept: float = SMOOTHED) -> list[float]:
    """Return at each place the mean of the values so far, the later ones counting more."""
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = kept * total + value, kept * weight + 1.0
        means.append(total / weight)
    return means
