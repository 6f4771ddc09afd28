"""A short real sampling run with the golden texts, and two ways to compare its latents."""

from __future__ import annotations

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import torch

from support import small_models

STEPS, CFG = 3, 4.0

least_tolerance = 0.0  # raised by whoever runs the laws with models of fewer bits (tools/gpu_parts)


def noise(model, batch: int = 1, height: int = 8, width: int = 12) -> torch.Tensor:
    channels = model.model.latent_format.latent_channels
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(5))


def sample(model, start_noise=None, cfg: float = CFG, callback=None, **steps) -> torch.Tensor:
    start_noise = noise(model) if start_noise is None else start_noise
    positive, negative = (
        small_models.golden_conditioning(model.model.family, name) for name in ("positive", "negative")
    )
    latent = torch.zeros_like(start_noise)
    steps = {"callback": callback, "seed": 1, **steps}
    return comfy.sample.sample(model, start_noise, STEPS, cfg, "euler", "normal", positive, negative, latent, **steps)


def noise_prediction(model, conds: tuple[list, list], cfg: float, x: torch.Tensor, sigma: torch.Tensor):
    """The noise that one step of ComfyUI's guider with this cfg predicts in x at the noise level sigma [1].

    conds: positive and negative.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conds)
    guider.set_cfg(cfg)
    found = []

    def one_step(denoiser, noise, sigmas, extra_args, callback, disable):
        own, level = x.to(noise), sigma.to(noise)  # where the model is
        found.append(((own - denoiser(own, level, **extra_args)) / level).cpu())
        return noise

    latent = torch.zeros_like(x)
    guider.sample(latent, latent, comfy.samplers.KSAMPLER(one_step), torch.tensor([sigma.item(), 0.0]))
    return found[0]


def noise_level_and_input(sampling, timestep: torch.Tensor, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sigma [1] of a timestep [1], and the x that the denoiser then sees as `latent`."""
    if isinstance(sampling, comfy.model_sampling.CONST):  # SD3 is given x as it is
        return timestep / sampling.multiplier, latent
    sigma = sampling.sigma(timestep)
    return sigma, latent * torch.sqrt(sigma**2 + sampling.sigma_data**2)


def close(found, expected, tolerance: float = 1e-4) -> None:
    """Check that two latents differ by at most this share of the largest value."""
    share = max(tolerance, least_tolerance)
    torch.testing.assert_close(found, expected, rtol=0, atol=share * float(expected.abs().max()))


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
