"""Pictures through the trained autoencoder, as fast as a processor can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from small_world.autoencoder import CHANNELS, TAESD, as_batch


class RoundTrip:
    """A trained autoencoder, from the file that its training leaves."""

    def __init__(self, file: Path) -> None:
        self.taesd = TAESD(latent_channels=CHANNELS)
        self.taesd.load_state_dict(load_file(file))
        self.taesd.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pictures [64, 64, 3] in 0..1 as they come back."""
        batch = as_batch(torch.from_numpy(np.stack(pictures)).movedim(-1, 1))
        decoded = self.taesd.taesd_decoder(self.taesd.taesd_encoder(batch))
        return list(decoded.clamp(0, 1).movedim(1, -1).numpy())
