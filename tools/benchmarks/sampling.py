"""The cost of a sampling run, in counts: passes, FLOPs, attentions, linear layers, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from ipadapter_instruct.models.patching.run import RUN
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bounds import SIZES, products, stream_flops, token_flops
from benchmarks.counting import Attentions, Products, counted, flops_of, in_a_run
from benchmarks.models import BASES, SIMPLE, SMALL, THREE_WAY, Base, adapter, applied, model
from benchmarks.report import Result

CFG = 7.0
NOTHING = Schedule(points=((0.0, 0.0),))
SIMPLE_FROM_THE_START = Schedule(three_way_until=0.0)
PASSES = (  # what, settings of Apply (None leaves the model bare), cfg, promised passes
    ("bare", None, CFG, 2),
    ("simple", SIMPLE, CFG, 2),
    ("three-way, image_guidance 1", THREE_WAY, CFG, 3),
    ("three-way, image_guidance 0.5", {**THREE_WAY, "image_scale": 0.5}, CFG, 4),
    ("three-way, weight 0", {**THREE_WAY, "weight": 0.0}, CFG, 2),
    ("three-way, outside start..end", {**THREE_WAY, "start_percent": 0.95}, CFG, 2),
    ("bare, cfg 1", None, 1.0, 1),
    ("simple, cfg 1", SIMPLE, 1.0, 1),
    ("three-way, image_guidance 1, cfg 1", THREE_WAY, 1.0, 2),
    ("three-way chosen by auto, cfg 1", {"guidance": "auto"}, 1.0, 1),
    ("three-way, image_guidance 1, instruct_guidance = cfg", {**THREE_WAY, "instruct_scale": CFG}, CFG, 2),
    ("likewise, image_guidance 0.5", {**THREE_WAY, "instruct_scale": CFG, "image_scale": 0.5}, CFG, 3),
    ("three-way, after three_way_until", {**THREE_WAY, "schedule": SIMPLE_FROM_THE_START}, CFG, 2),
    ("three-way, where its schedule is 0", {**THREE_WAY, "schedule": NOTHING}, CFG, 2),
)
STEPS = (  # what, settings of Apply, cfg
    ("1 row: simple, cfg 1", SIMPLE, 1.0),
    ("2 rows: simple", SIMPLE, CFG),
    ("3 rows: three-way", THREE_WAY, CFG),
)
KEPT = (  # what, settings of Apply, branches, the adapter file's dtype
    ("simple", SIMPLE, 2, torch.float16),
    ("three-way", THREE_WAY, 4, torch.float16),
    ("three-way, adapter in fp32", THREE_WAY, 4, torch.float32),
)
FILE_DTYPE = torch.float16
NEAR = 1.005  # of the least that a step must cost
SMALL_LATENT = 16  # what is kept doesn't depend on it


@dataclass(frozen=True)
class StepCost:
    """The cost of one full-size step: its rows, its model calls, and what they ran. A multiply-add is two FLOPs.

    flops, products: all products of matrices, and how many.
    attention_flops: of them queries with keys, and with values.
    linears, linear_flops: the adapter's linear layers in the step; linears_before: those that ran for all steps.
    """

    rows: int
    calls: int
    flops: int
    products: int
    attentions: int
    attention_flops: int
    linears: int
    linear_flops: int
    linears_before: int

    @property
    def row_flops(self) -> float:
        return self.flops / self.rows

    @property
    def models_own(self) -> int:
        """The FLOPs a row outside attentions and the adapter."""
        return (self.flops - self.attention_flops - self.linear_flops) // self.rows


def passes() -> Iterator[Result]:
    for what, settings, cfg, promised in PASSES:
        patched = applied(model(SMALL), SMALL, settings)
        with counted([patched.model.diffusion_model]) as calls:
            in_a_run(patched, SMALL, cfg, lambda step, options: step())
        yield Result(what, {"passes": sum(calls), "model calls": len(calls)}, {"passes": promised})


def attention_counted() -> Iterator[Result]:
    """Check that attention is counted: a counter that missed it would find the pack to be free."""
    q, kv = torch.empty(1, 8, 4096, 40, device="meta"), torch.empty(1, 8, 77, 40, device="meta")
    with Attentions() as attentions, FlopCounterMode(display=False) as counter:
        nn.functional.scaled_dot_product_attention(q, kv, kv)
    two_products = 2 * (2 * 4096 * 77 * 8 * 40)
    values = {"attentions": attentions.calls, "its FLOPs": attentions.flops, "all FLOPs": counter.get_total_flops()}
    promised = {"attentions": 1, "its FLOPs": two_products, "all FLOPs": two_products}
    yield Result("4096 positions, 77 tokens, width 320", values, promised)


def flops() -> Iterator[Result]:
    """Promise that a row costs what `bounds` says it must, and not half a percent more."""
    for base in BASES:
        for pixels, latent in SIZES.items():
            for what, settings, cfg in STEPS:
                bare, patched = (step_cost(base, own, cfg, latent) for own in (None, settings))
                yield step_result(f"{base.title} {pixels} pixels, {what}", base, bare, patched, latent)


def step_result(what: str, base: Base, bare: StepCost, patched: StepCost, latent: int) -> Result:
    """Promise that a model call runs one more attention a site and the linear layers of `site_linears`, and multiplies
    no other matrices than the bare model does. What ran before the step shows that linear layers are seen at all."""
    least = bare.row_flops + token_flops(base, latent) + stream_flops(base, latent)
    sites = len(base.site_widths)
    values = {
        "bare": bare.flops / 1e9,
        "patched": patched.flops / 1e9,
        "ratio a row": patched.row_flops / bare.row_flops,
        "to the bound": patched.row_flops / least,
        "products a site": (patched.products / patched.calls - bare.products / bare.calls) / sites,
        "attentions added": patched.attentions / patched.calls - bare.attentions / bare.calls,
        "linears": patched.linears / patched.calls,
        "other FLOPs": patched.models_own - bare.models_own,
        "linears before": patched.linears_before,
    }
    promised = {
        "products a site": products(base),
        "attentions added": sites,
        "linears": sites * base.site_linears,
        "other FLOPs": 0,
        "linears before": sites * base.token_linears,
    }
    return Result(what, values, promised, {"to the bound": NEAR})


def step_cost(base: Base, settings: dict | None, cfg: float, latent: int) -> StepCost:
    patched = applied(model(base), base, settings, FILE_DTYPE)

    def one_step(step: Callable, options: dict) -> StepCost:
        before, attentions, counter = len(linears), Attentions(), FlopCounterMode(display=False)
        with counted([patched.model.diffusion_model]) as rows, attentions, counter, Products() as launched:
            step()
        return StepCost(
            rows=sum(rows),
            calls=len(rows),
            flops=counter.get_total_flops(),
            products=launched.count,
            attentions=attentions.calls,
            attention_flops=attentions.flops,
            linears=len(linears[before:]),
            linear_flops=sum(linears[before:]),
            linears_before=before,
        )

    with counted(linear_layers(adapter(base, FILE_DTYPE)), flops_of) as linears:
        return in_a_run(patched, base, cfg, one_step, latent)


def linear_layers(loaded: LoadedAdapter) -> list[nn.Linear]:
    parts = (loaded.image_projection.model, *attention_parts(loaded))
    return [module for part in parts for module in part.modules() if isinstance(module, nn.Linear)]


def attention_parts(loaded: LoadedAdapter) -> list[nn.Module]:
    """Return all of the adapter but its resampler."""
    return [loaded.projections, *([loaded.streams.model] if loaded.streams else [])]


def memory() -> Iterator[Result]:
    """Promise 16 tokens' keys and values for every branch and site, and SD3's four square matrices a site."""
    for base in BASES:
        for what, settings, branches, file_dtype in KEPT:
            loaded = adapter(base, file_dtype)
            patched = applied(model(base), base, settings, file_dtype)
            keys_values, streams = in_a_run(patched, base, CFG, kept, SMALL_LATENT)
            matrices = nbytes(weight for part in attention_parts(loaded) for weight in part.parameters())
            values = {
                "keys and values": keys_values,
                "stream matrices": streams,
                "kept": keys_values + streams,
                "all its matrices": matrices,
                "whole adapter": matrices + nbytes(loaded.image_projection.model.parameters()),
                "of its matrices": (keys_values + streams) / matrices,
            }
            squares = sum(width**2 for width in base.site_widths)
            promised = {
                "keys and values": 2 * branches * TOKENS * sum(base.site_widths) * torch.float16.itemsize,
                "stream matrices": base.site_linears * squares * file_dtype.itemsize,
            }
            yield Result(f"{base.title}, {what}", values, promised)


def kept(step: Callable, options: dict) -> tuple[int, int]:
    """Return the bytes of the keys and values, and of the adapter's matrices that ComfyUI has loaded, during a run."""
    running = options[RUN].adapters
    streams = [one.applied.adapter.streams for one in running]
    return (
        nbytes(x for one in running for pair in one.of_branches.sites.values() for x in pair),
        sum(weights.loaded_size() for weights in streams if weights),
    )


def nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
