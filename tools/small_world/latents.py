"""Pictures to the denoiser's latents and back, by the trained autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from small_world.autoencoder import CHANNELS, TAESD


def as_batch(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures [H, W, 3] as a batch [B, 3, H, W]."""
    batch = torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
    return batch.contiguous(memory_format=torch.channels_last)


class Latents:
    """A trained autoencoder, from the file that its training leaves."""

    def __init__(self, file: Path) -> None:
        self.taesd = TAESD(latent_channels=CHANNELS)
        self.taesd.load_state_dict(load_file(file))
        self.taesd.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def of(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """[B, 16, 8, 8] of mean 0 and variance 1, as after SD3's latent format."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.taesd.taesd_encoder(as_batch(pictures)).float()

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> list[np.ndarray]:
        """Pictures [64, 64, 3] in 0..1."""
        with torch.autocast("cpu", torch.bfloat16):
            decoded = self.taesd.taesd_decoder(latents).float().clamp(0, 1)
        return list(decoded.movedim(1, -1).numpy())
