"""Notice calls of the denoiser in which the adapter has no part.

ComfyUI lets a node put a function in the place of its call of the model. Most call the model in turn; DeepCache and its
kind run the denoiser themselves, past every wrapper, so that an adapter would be left out without a word.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import nn

FUNCTION_WRAPPER = "model_function_wrapper"


class ModelCalls:
    """The calls of the denoiser in one sampling run. Calls may come from several threads.

    were_entered: whether the run has had an `entered` call yet.
    """

    def __init__(self):
        self.were_entered = False
        self._inside = threading.local()
        self._wrapper: object = None

    @contextlib.contextmanager
    def step(self, first_layers: Iterable[nn.Module], wrapper: object) -> Iterator[None]:
        """Let the denoiser run in `entered` calls only, until the end of a step in which an adapter acts.

        first_layers: a layer of each denoiser that every evaluation of it begins with. wrapper: the model function
        wrapper that another node has put there, or None.
        """
        self._wrapper = wrapper
        with contextlib.ExitStack() as stack:
            for layer in first_layers:
                stack.enter_context(layer.register_forward_pre_hook(self._check))
            yield

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Mark a call of the model whose attention is patched, for as long as the context lasts."""
        before = getattr(self._inside, "call", False)
        self._inside.call = self.were_entered = True
        try:
            yield
        finally:
            self._inside.call = before

    def refusal(self, found: str = "gives predictions without calling it") -> ValueError:
        """Return the error for a step whose predictions the adapter has no part in. found: what the other node does."""
        own = self._wrapper
        name = "" if own is None else f", {own.__module__}.{getattr(own, '__qualname__', type(own).__name__)}"
        return ValueError(
            "A call of ComfyUI's model was expected, in which IPAdapter-Instruct can act; another node (a model "
            f"function wrapper of DeepCache's kind{name}) {found}. Bypass that node, or Apply IPAdapter-Instruct."
        )

    def _check(self, *args) -> None:
        if not torch.compiler.is_compiling() and not getattr(self._inside, "call", False):
            raise self.refusal("runs the denoiser itself")
