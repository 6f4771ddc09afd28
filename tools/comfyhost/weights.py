"""Random weights: a model is described by the shape and spread of each tensor, and drawn from that."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

BIAS_SPREAD = 0.02
NORM_SPREAD = 0.05


@dataclass(frozen=True)
class Weight:
    """One tensor to draw: normal with this mean and spread; dtype None is the file's ordinary one."""

    shape: tuple[int, ...]
    spread: float
    mean: float = 0.0
    dtype: torch.dtype | None = None


class Blueprint(dict[str, Weight]):
    """The tensors of a model by name, not drawn yet.

    Linear and convolution weights keep the size of what passes through them (spread 1 / sqrt(fan in));
    `gain` changes that.
    """

    def put(self, name: str, *shape: int, spread: float = BIAS_SPREAD, mean: float = 0.0) -> None:
        self[name] = Weight(shape, spread, mean)

    def linear(self, name: str, wide_in: int, wide_out: int, bias: bool = True, gain: float = 1.0) -> None:
        self.put(f"{name}.weight", wide_out, wide_in, spread=gain * wide_in**-0.5)
        if bias:
            self.put(f"{name}.bias", wide_out)

    def conv(self, name: str, wide_in: int, wide_out: int, kernel: int, bias: bool = True, gain: float = 1.0) -> None:
        fan_in = wide_in * kernel * kernel
        self.put(f"{name}.weight", wide_out, wide_in, kernel, kernel, spread=gain * fan_in**-0.5)
        if bias:
            self.put(f"{name}.bias", wide_out)

    def norm(self, name: str, width: int) -> None:
        self.put(f"{name}.weight", width, spread=NORM_SPREAD, mean=1.0)
        self.put(f"{name}.bias", width, spread=NORM_SPREAD)

    def constant(self, name: str, value: float) -> None:
        """A float32 scalar."""
        self[name] = Weight((), 0.0, value, torch.float32)

    def add(self, prefix: str, part: Blueprint) -> None:
        """Take over another model's tensors under a prefix."""
        self.update({prefix + name: weight for name, weight in part.items()})

    def with_matrices(self, dtype: torch.dtype) -> Blueprint:
        """The same model with its matrices of this number type; vectors keep theirs."""
        return Blueprint({name: replace(w, dtype=dtype) if len(w.shape) > 1 else w for name, w in self.items()})

    def size(self, dtype: torch.dtype) -> int:
        """Return the bytes of a file whose ordinary number type this is, without its header."""
        return sum(torch.Size(w.shape).numel() * (w.dtype or dtype).itemsize for w in self.values())

    def parameters(self) -> int:
        """Return how many numbers the model holds."""
        return sum(torch.Size(weight.shape).numel() for weight in self.values())


def draw(blueprint: Blueprint, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a blueprint, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: draw_one(weight, generator, dtype) for name, weight in blueprint.items()}


def draw_one(weight: Weight, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    tensor = torch.randn(weight.shape, generator=generator).mul_(weight.spread).add_(weight.mean)
    return tensor.to(weight.dtype or dtype)
