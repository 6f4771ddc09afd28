"""How the world's adapters begin to read a picture: along the directions in which pictures differ.

A drawn image encoder's states are mostly the same for all pictures: what is in a patch moves them little. A first layer
with drawn weights hands that on, and learning to look past it takes longer than all the rest.
N pictures, P = 257 places, D = 1280.
"""

from __future__ import annotations

import torch
from torch import Tensor

from small_world.references import References

PICTURES = 256
OF_PLACES = 4  # one in so many of the directions tells places apart, the others contents


def first_layer(states: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Weight [width, D] and bias [width] that turn states [N, P, D] into uncorrelated numbers of about variance 1."""
    places = states.mean(0)  # [P, D]
    mean = places.mean(0)
    contents = (states - places).flatten(0, 1)
    count = width // OF_PLACES
    along_contents = directions(contents, width - count)
    rest = places - mean
    rest = rest - (rest @ along_contents.T) @ torch.linalg.pinv(along_contents).T
    weight = torch.cat([along_contents, directions(rest, count)])
    return weight, -(weight @ mean)


def directions(rows: Tensor, count: int) -> Tensor:
    """The main directions of rows [M, D] of mean 0, [count, D], each divided by its spread."""
    spreads, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    spreads, axes = spreads.flip(0)[:count], axes.flip(1)[:, :count]
    return (axes / spreads.clamp(min=1e-8).sqrt()).T


def first_layer_for(references: References, width: int) -> tuple[Tensor, Tensor]:
    """Of some of the references."""
    numbers = range(min(PICTURES, len(references.scenes)))
    return first_layer(references.states(numbers).float(), width)
