"""A short real sampling run with the golden texts, and two ways to compare its latents."""

from __future__ import annotations

import comfy.sample
import small
import torch

STEPS, CFG = 3, 4.0


def noise(model, batch: int = 1, height: int = 16, width: int = 24) -> torch.Tensor:
    channels = model.model.latent_format.latent_channels
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(5))


def sample(model, start_noise=None, cfg: float = CFG, callback=None, **steps) -> torch.Tensor:
    start_noise = noise(model) if start_noise is None else start_noise
    positive, negative = (small.golden_conditioning(model.model.family, name) for name in ("positive", "negative"))
    latent = torch.zeros_like(start_noise)
    steps = {"callback": callback, "seed": 1, **steps}
    return comfy.sample.sample(model, start_noise, STEPS, cfg, "euler", "normal", positive, negative, latent, **steps)


def close(found, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
