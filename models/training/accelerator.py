"""The processes that training runs in: this one alone, or several, started by Hugging Face accelerate."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn


class Accelerator:
    """The part of accelerate's Accelerator that training uses, by the same names, for this process alone."""

    process_index = 0
    is_main_process = True

    def prepare(self, *parts: Any) -> tuple[Any, ...]:
        return parts

    def no_sync(self, module: nn.Module) -> AbstractContextManager:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def accelerate_processes(on_cpu: bool = False) -> Any:
    """Return accelerate's own Accelerator, for the processes of `accelerate launch` or for a single one.

    Call it before ComfyUI is imported: ComfyUI takes the device that is then the current one.
    Raises ValueError where accelerate is not installed.
    """
    try:
        import accelerate
    except ImportError:
        raise ValueError("Run: pip install accelerate. It runs the training, and is not installed.") from None
    return accelerate.Accelerator(cpu=on_cpu)
