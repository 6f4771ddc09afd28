"""The world's autoencoder: ComfyUI's TAESD with 16 channels, as SD3 has them.

B pictures, C latent channels; a picture is [B, 3, 64, 64] in 0..1, its latents are [B, 16, 8, 8].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from small_world.in_process import comfy

TAESD, Block = comfy.taesd.taesd.TAESD, comfy.taesd.taesd.Block

CHANNELS = 16
LATENT_NOISE = 0.1  # the decoder learns to take latents that a denoiser leaves a little wrong
PREFIX = "first_stage_model."


class Autoencoder(nn.Module):
    """A TAESD in training. Its latents are normalised by channel, which is folded into the encoder at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd = TAESD(latent_channels=CHANNELS)
        self.normalise = nn.BatchNorm2d(CHANNELS, affine=False, momentum=0.05)
        draw_weights(self.taesd)

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of mean 0 and variance 1 in every channel."""
        return self.normalise(self.taesd.taesd_encoder(pictures).float())

    def decode(self, latents: Tensor) -> Tensor:
        return self.taesd.taesd_decoder(latents)

    def forward(self, pictures: Tensor) -> Tensor:
        """The pictures as they come back."""
        latents = self.encode(pictures)
        return self.decode(latents + LATENT_NOISE * torch.randn_like(latents)).float()


def draw_weights(taesd: TAESD) -> None:
    """First weights: every residual block starts as the identity, so that the first steps train a shallow net."""
    for module in taesd.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in taesd.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.conv[-1].weight)
    nn.init.constant_(taesd.taesd_decoder[-1].bias, 0.5)


def folded(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """The TAESD as ComfyUI loads it, without a prefix.

    The normalisation becomes part of the encoder's last layer; `vae_scale` and `vae_shift` undo SD3's latent format,
    so that the denoiser sees latents of mean 0 and variance 1.
    """
    weights = {name: tensor.detach().clone() for name, tensor in autoencoder.taesd.state_dict().items()}
    mean, spread = autoencoder.normalise.running_mean, autoencoder.normalise.running_var.add(1e-5).sqrt()
    weight, bias = (f"taesd_encoder.14.{part}" for part in ("weight", "bias"))
    weights[weight] = weights[weight] / spread[:, None, None, None]
    weights[bias] = (weights[bias] - mean) / spread
    sd3 = comfy.latent_formats.SD3()
    weights["vae_scale"] = torch.tensor(sd3.scale_factor)
    weights["vae_shift"] = torch.tensor(sd3.shift_factor)
    return weights
