"""The devices that teaching computes on: one, or several, as Hugging Face accelerate spreads it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Protocol, cast

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """The engine of teaching. rank: this process's number. is_first: whether it is the one that writes files."""

    rank: int
    is_first: bool

    def shared(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return both, so that all processes have the same weights after a step."""
        ...

    def sharing(self, module: nn.Module, last: bool) -> AbstractContextManager:
        """Return a context for a pass; gradients are brought together in the last one of a step."""
        ...

    def backward(self, loss: Tensor) -> None: ...

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over all processes."""
        ...


class OneDevice:
    """The engine of this process alone."""

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


class Accelerated:
    """The engine when `accelerate launch` has started this process, or on its own on whatever device there is.

    Make it before ComfyUI is imported: ComfyUI takes the device that is then the current one.
    """

    def __init__(self, on_cpu: bool = False):
        """Raises ValueError where accelerate is not installed."""
        try:
            from accelerate import Accelerator
        except ImportError:
            message = "Hugging Face accelerate was expected, which runs the training. Run: pip install accelerate"
            raise ValueError(message) from None
        self._accelerator = Accelerator(cpu=on_cpu)

    @property
    def rank(self) -> int:
        return self._accelerator.process_index

    @property
    def is_first(self) -> bool:
        return self._accelerator.is_main_process

    def shared(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return self._accelerator.prepare(module, optimiser)

    def sharing(self, module: nn.Module, last: bool) -> AbstractContextManager:
        return contextlib.nullcontext() if last else self._accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def mean(self, value: Tensor) -> Tensor:
        return cast(Tensor, self._accelerator.reduce(value, "mean"))
