"""The autoencoder's encoder, which is linear, and TAESD's encoder made of it."""

import numpy as np
import pytest
import torch
from drawn_world.models.autoencoder import CHANNELS, VALUES, Components, evenly_turned, new_taesd


@pytest.fixture(scope="module")
def found():
    generator = torch.Generator().manual_seed(0)
    return Components(torch.full((VALUES,), 0.5), torch.randn(CHANNELS, VALUES, generator=generator) / 10)


def test_taesds_encoder_computes_the_components(found):
    pictures = np.random.default_rng(0).random((2, 32, 48, 3), np.float32)
    with torch.no_grad():
        latents = new_taesd(found).taesd_encoder(torch.from_numpy(pictures).movedim(-1, 1))
    torch.testing.assert_close(latents, found.encode(pictures), rtol=0, atol=1e-4)


def test_what_lies_in_the_components_comes_back(found):
    latents = torch.randn(2, CHANNELS, 4, 6, generator=torch.Generator().manual_seed(1)) / 20
    again = found.encode(found.decode(latents))
    torch.testing.assert_close(again, latents, rtol=0, atol=1e-4)


def test_turned_axes_keep_their_lengths_together():
    axes = torch.randn(CHANNELS, 10, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(evenly_turned(axes).square().sum(), axes.square().sum())
