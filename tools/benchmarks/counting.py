"""A way into ComfyUI's sampling, and what is counted there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import comfy.samplers
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.models import Base

SIGMA = 1.0

T = TypeVar("T")


def in_a_run(
    model, base: Base, cfg: float, use: Callable[[Callable, dict], T], size: int | None = None, latents: int = 1
) -> T:
    """Return what `use(step, transformer_options)` returns inside a sampling run of latents `size` high and wide.

    `step()` is one step of ComfyUI's guider, with a positive and a negative of the family's ordinary length.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({name: conditioning(base) for name in ("positive", "negative")})
    guider.set_cfg(cfg)
    found = []

    def sampler(denoiser, noise, sigmas, extra_args, callback, disable):
        options = extra_args["model_options"]["transformer_options"]
        found.append(use(lambda: denoiser(noise, torch.full((latents,), SIGMA), **extra_args), options))
        return noise

    channels, size = model.model.latent_format.latent_channels, size or base.latent
    noise, sigmas = torch.randn(latents, channels, size, size), torch.tensor([SIGMA, 0.0])
    guider.sample(noise, torch.zeros_like(noise), comfy.samplers.KSAMPLER(sampler), sigmas)
    return found[0]


def conditioning(base: Base) -> list:
    pooled = {} if base.pooled is None else {"pooled_output": torch.randn(1, base.pooled)}
    return [[torch.randn(1, base.text_tokens, base.family.context_width), pooled]]


def rows_of(module: nn.Module, x: torch.Tensor) -> int:
    return len(x)


def flops_of(linear: nn.Linear, x: torch.Tensor) -> int:
    """Return the FLOPs of a linear layer; a multiply-add is two."""
    return 2 * x.numel() * linear.out_features


@contextmanager
def counted(modules: Iterable[nn.Module], what: Callable[[nn.Module, object], int] = rows_of) -> Iterator[list[int]]:
    """Yield a list with an entry for each run of one of these modules: `what` of it and of its first input."""
    runs: list[int] = []

    def count(module, args: tuple, kwargs: dict) -> None:
        runs.append(what(module, [*args, *kwargs.values()][0]))

    handles = [module.register_forward_pre_hook(count, with_kwargs=True) for module in modules]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


class Attentions(TorchFunctionMode):
    """Counts torch's attention, which is what ComfyUI is told to use here, and its FLOPs."""

    def __init__(self):
        super().__init__()
        self.calls = self.flops = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.scaled_dot_product_attention:
            self.calls += 1
            self.flops += attention_flops(*args[:3])
        return function(*args, **(kwargs or {}))


class Products(TorchDispatchMode):
    """Counts products of matrices: linear layers, and an attention's two, which ComfyUI launches together."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition("::")[2].partition(".")[0]
        if "scaled_dot_product" in name:
            self.count += 2
        elif name in ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm"):  # whole ones in inference mode
            self.count += 1
        return function(*args, **(kwargs or {}))


def attention_flops(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> int:
    """Return the FLOPs of an attention, [.., positions, width]: every query with every key, and with every value."""
    return 2 * q.shape[:-1].numel() * k.shape[-2] * (k.shape[-1] + v.shape[-1])
