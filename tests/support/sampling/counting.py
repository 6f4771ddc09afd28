"""The costs of a run, counted: torch's operations, and calls of modules."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from ipadapter_instruct.models.denoisers.cross_attention_patch import CrossAttentionPatch
from ipadapter_instruct.models.denoisers.joint_attention_patch import JointImageAttention
from torch.utils._python_dispatch import TorchDispatchMode

from support.sampling.short_runs import CFG, sample

ATTENTION = "attention calls"


class Operations(TorchDispatchMode):
    """Count how often torch runs each operation. A `to` that has nothing to do is none."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name != "to" or result.data_ptr() != args[0].data_ptr():
            self.counts[name] += 1
        return result


def patch_class(family: str) -> type:
    """The class that computes the attention to image tokens at a site."""
    return JointImageAttention if family == "sd3" else CrossAttentionPatch


@contextlib.contextmanager
def in_attention(family: str) -> Iterator[collections.Counter]:
    """The operations of all calls of the pack's attention until the end, and how many calls there are."""
    attention = patch_class(family)
    original, counting = attention.__call__, Operations()

    def call(self, *args, **kwargs):
        with counting:
            counting.counts[ATTENTION] += 1
            return original(self, *args, **kwargs)

    attention.__call__ = call
    try:
        yield counting.counts
    finally:
        attention.__call__ = original


def attention_counts(model, start_noise=None, **steps) -> collections.Counter:
    """The operations inside the pack's attention during a short run."""
    with in_attention(model.model.family) as counts:
        sample(model, start_noise, **steps)
    return counts


def linear_layers(module: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in module.modules() if isinstance(m, torch.nn.Linear)]


@contextlib.contextmanager
def calls_of(modules: Iterable[torch.nn.Module]) -> Iterator[list[int]]:
    """Count the rows of each call of the modules until the end."""
    calls = []

    def count(module, args, kwargs, output):
        calls.append(len([*args, *kwargs.values()][0]))

    hooks = [module.register_forward_hook(count, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def rows(model, run: Callable[[], object]) -> list[int]:
    """Count the rows of each call of the model while `run` runs: with one latent, its passes."""
    with calls_of([model.model.diffusion_model]) as calls:
        run()
    return calls


def passes(model, cfg: float = CFG, **steps) -> list[int]:
    """The passes of each step of a short run."""
    return rows(model, lambda: sample(model, cfg=cfg, **steps))
