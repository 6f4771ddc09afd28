"""A short real sampling run with the golden texts, and two ways to compare its latents."""

from __future__ import annotations

import small  # first: it makes comfy importable

import comfy.sample
import torch
from golden_cases import golden_case

STEPS, CFG = 3, 4.0


def noise(batch: int = 1, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(5))


def sample(model, start_noise=None, cfg: float = CFG, callback=None, **steps) -> torch.Tensor:
    values = golden_case("sd15").values
    start_noise = noise() if start_noise is None else start_noise
    positive, negative = (small.conditioning(values[f"text.{name}"]) for name in ("positive", "negative"))
    latent = torch.zeros_like(start_noise)
    return comfy.sample.sample(
        model, start_noise, STEPS, cfg, "euler", "normal", positive, negative, latent, callback=callback, seed=1, **steps
    )


def close(found, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
