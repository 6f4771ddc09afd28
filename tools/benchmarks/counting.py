"""A way into ComfyUI's sampling, and what is counted there."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import comfy.samplers
import torch
from ipadapter_instruct.models.patching.run import RUN
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop

from benchmarks.models import Base

CFG = 7.0
SIGMA = 1.0
ATEN = torch.ops.aten
ATTENTION = ATEN.scaled_dot_product_attention  # what ComfyUI is told to use here
PRODUCTS = {ATTENTION: sdpa_flop, **{op: flop_registry[op] for op in (ATEN.mm, ATEN.addmm, ATEN.bmm, ATEN.baddbmm)}}

T = TypeVar("T")


class Work(FlopCounterMode):
    """Counts FLOPs, a multiply-add being two; and how many products of matrices and attentions there are.

    An attention is counted whole, since torch knows only some of those that it may be on a device.
    """

    def __init__(self):
        self.runs: Counter = Counter()
        own = {op: self.counting(op, formula) for op, formula in PRODUCTS.items()}
        whole = {ATTENTION.default: own[ATTENTION]}  # torch takes apart what it does not find by its overload
        super().__init__(display=False, custom_mapping={**own, **whole})

    def counting(self, op, formula: Callable[..., int]) -> Callable[..., int]:
        def flops(*shapes, out_shape, **options) -> int:
            self.runs[op] += 1
            return formula(*shapes, out_val=out_shape, **options)

        return flops

    def counts(self) -> dict[str, int]:
        """Return what was counted by name; an attention is two products, which ComfyUI launches together."""
        return {
            "FLOPs": self.get_total_flops(),
            "products": self.runs.total() + self.runs[ATTENTION],
            "attentions": self.runs[ATTENTION],
            "attention FLOPs": self.get_flop_counts().get("Global", {}).get(ATTENTION, 0),
        }


def one_step(
    model, base: Base, cfg: float = CFG, size: int | None = None, latents: int = 1, linears: Iterable[nn.Module] = ()
) -> dict[str, int]:
    """Count what one step of ComfyUI's guider runs, and the bytes that are kept of the adapters during a run.

    linears: an adapter's linear layers, of which the runs within the step and before it are counted.
    """

    def step(run_step: Callable, options: dict) -> dict[str, int]:
        before = len(runs)
        with counted([model.model.diffusion_model]) as rows, Work() as work:
            run_step()
        own = {"linears before": before, "linears": len(runs) - before, "linear FLOPs": sum(runs[before:])}
        return {"rows": sum(rows), "calls": len(rows), **work.counts(), **own, **kept(options)}

    with counted(linears, lambda linear, x: 2 * x.numel() * linear.out_features) as runs:
        return in_a_run(model, base, cfg, step, size, latents)


def in_a_run(
    model,
    base: Base,
    cfg: float,
    use: Callable[[Callable, dict], T],
    size: int | None = None,
    latents: int = 1,
    positives: int = 1,
) -> T:
    """Return what `use(step, transformer_options)` returns inside a sampling run of latents `size` high and wide.

    `step()` is one step of ComfyUI's guider, with so many positives and a negative of the family's ordinary length.
    """
    guider = comfy.samplers.CFGGuider(model)
    positive = [one for _ in range(positives) for one in conditioning(base)]
    guider.inner_set_conds({"positive": positive, "negative": conditioning(base)})
    guider.set_cfg(cfg)
    found = []

    def sampler(denoiser, noise, sigmas, extra_args, callback, disable):
        options = extra_args["model_options"]["transformer_options"]
        found.append(use(lambda: denoiser(noise, noise.new_full((latents,), SIGMA), **extra_args), options))
        return noise

    channels, size = model.model.latent_format.latent_channels, size or base.latent
    noise, sigmas = torch.randn(latents, channels, size, size), torch.tensor([SIGMA, 0.0])
    guider.sample(noise, torch.zeros_like(noise), comfy.samplers.KSAMPLER(sampler), sigmas)
    return found[0]


def conditioning(base: Base) -> list:
    pooled = {} if base.pooled is None else {"pooled_output": torch.randn(1, base.pooled)}
    return [[torch.randn(1, base.text_tokens, base.family.context_width), pooled]]


def kept(options: dict) -> dict[str, int]:
    """Return the bytes of the keys and values, and of the adapters' matrices that ComfyUI has loaded."""
    running = options[RUN].adapters if RUN in options else []
    streams = [one.applied.adapter.streams for one in running]
    return {
        "keys and values": sum(x.nbytes for one in running for pair in one.of_branches.sites.values() for x in pair),
        "stream matrices": sum(weights.loaded_size() for weights in streams if weights),
    }


@contextmanager
def counted(modules: Iterable[nn.Module], what: Callable = lambda module, x: len(x)) -> Iterator[list[int]]:
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
