"""Where the arithmetic of teaching runs: on one device, or on several, as Hugging Face accelerate spreads it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """rank: this process's number. is_first: whether it is the one that writes files."""

    rank: int
    is_first: bool

    def shared(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Both, so that all processes have the same weights after a step."""

    def sharing(self, module: nn.Module, last: bool) -> AbstractContextManager:
        """Around a pass; gradients are brought together in the last one of a step."""

    def backward(self, loss: Tensor) -> None: ...

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes."""


class OneDevice:
    """This process alone."""

    rank = 0
    is_first = True

    def shared(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return module, optimiser

    def sharing(self, module: nn.Module, last: bool) -> AbstractContextManager:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean(self, value: Tensor) -> Tensor:
        return value
