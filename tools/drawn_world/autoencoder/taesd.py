"""ComfyUI's TAESD with 16 channels, as SD3 has them: the encoder made of components, the decoder trained.

B pictures [B, 3, 96, 96] in 0..1 have latents [B, 16, 12, 12].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from drawn_world.autoencoder.components import CHANNELS, Components, encoder_weights
from drawn_world.in_process import comfy

TAESD, Block = comfy.taesd.taesd.TAESD, comfy.taesd.taesd.Block
PREFIX = "first_stage_model."


def new_taesd(found: Components, seed: int = 0) -> nn.Module:
    """A TAESD whose encoder is done and whose decoder has its first weights.

    `vae_scale` and `vae_shift` undo SD3's latent format, so that the denoiser sees the encoder's own numbers, of
    mean 0 and variance 1.
    """
    taesd = TAESD(latent_channels=CHANNELS)
    draw_weights(taesd.taesd_decoder, seed)
    taesd.taesd_encoder.load_state_dict(encoder_weights(found, taesd.taesd_encoder.state_dict()))
    sd3 = comfy.latent_formats.SD3()
    with torch.no_grad():
        taesd.vae_scale.fill_(sd3.scale_factor)
        taesd.vae_shift.fill_(sd3.shift_factor)
    return taesd.to(memory_format=torch.channels_last)


def draw_weights(decoder: nn.Module, seed: int) -> None:
    """First weights: every residual block starts as the identity, so that the first steps train a shallow net."""
    generator = torch.Generator().manual_seed(seed)
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in decoder.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.conv[-1].weight)
    nn.init.constant_(decoder[-1].bias, 0.5)


def as_batch(latents_or_pictures: Tensor) -> Tensor:
    """In the memory format in which convolutions are fastest on a processor."""
    return latents_or_pictures.contiguous(memory_format=torch.channels_last)
