"""Made-up images, their sizes and their comparison."""

import torch

SIZES = [(1, 1), (7, 513), (513, 7), (40, 40), (37, 53)]
CHANNELS = [3, 4]


def made_images(number: int, height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(number, height, width, channels, generator=torch.Generator().manual_seed(seed))


def numbered(height: int, width: int) -> torch.Tensor:
    """A picture of which every pixel is another, [1, H, W, 3]."""
    values = torch.arange(1, height * width + 1).float() / (height * width)
    return values.view(1, height, width, 1).expand(-1, -1, -1, 3)


def same(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 0) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def in_range(image: torch.Tensor) -> bool:
    return bool(((image >= 0) & (image <= 1)).all())
