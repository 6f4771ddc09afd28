"""The first layer of the world's adapters: uncorrelated numbers of about the same spread, of contents and of places."""

from __future__ import annotations

import torch
from small_world.first_layer import OF_PLACES, first_layer

WIDTH = 16


def states() -> torch.Tensor:
    """60 pictures of 20 places 40 wide: a common part that is far larger than places, and those than contents."""
    generator = torch.Generator().manual_seed(1)
    contents = torch.randn(60, 20, 24, generator=generator) @ torch.randn(24, 40, generator=generator)
    return 50 * torch.randn(40, generator=generator) + 3 * torch.randn(20, 40, generator=generator) + 0.1 * contents


def test_what_comes_out_has_mean_0_and_about_variance_1():
    weight, bias = first_layer(states(), WIDTH)
    out = (states() @ weight.T + bias).flatten(0, 1)
    assert out.shape[1] == WIDTH
    assert out.mean(0).abs().max() < 1e-2
    count = WIDTH // OF_PLACES
    torch.testing.assert_close(out[:, -count:].var(0), torch.ones(count), rtol=0.2, atol=0)


def test_contents_alone_have_variance_1_along_their_directions():
    weight, _ = first_layer(states(), WIDTH)
    contents = states() - states().mean(0)
    along = (contents @ weight[: WIDTH - WIDTH // OF_PLACES].T).flatten(0, 1)
    torch.testing.assert_close(along.T @ along / len(along), torch.eye(along.shape[1]), rtol=0, atol=1e-2)
