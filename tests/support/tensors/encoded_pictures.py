"""Smooth pictures, and what an image encoder makes of them."""

import torch
from ipadapter_instruct.models.encoding.image_encoder import image_features


def hidden_states(*inputs, **options):
    return image_features(*inputs, **options).hidden_states


def pictures(number: int, height: int = 224, width: int = 224, seed: int = 0) -> torch.Tensor:
    """[number, height, width, 3], smooth enough for resampling to make sense of."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(number, 3, max(2, height // 16), max(2, width // 16), generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear").movedim(1, -1).contiguous()
