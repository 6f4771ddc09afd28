"""What a sampling run costs, in counts: passes, FLOPs, projections, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from ipadapter_instruct.models.patching.run import RUN
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import FULL, SIMPLE, SMALL, THREE_WAY, adapter, applied, counted, in_a_run, sd15
from benchmarks.report import Result

CFG = 7.0
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
)
STEPS = (  # what, settings of Apply, cfg
    ("1 row: simple, cfg 1", SIMPLE, 1.0),
    ("2 rows: simple", SIMPLE, CFG),
    ("3 rows: three-way", THREE_WAY, CFG),
)


@dataclass(frozen=True)
class StepCost:
    """One full-size step: its rows, its FLOPs (a multiply-add is two), and the runs of the adapter's linear layers."""

    rows: int
    attention: int
    rest: int
    linears: int
    linears_before: int

    @property
    def flops(self) -> int:
        return self.attention + self.rest


def passes() -> Iterator[Result]:
    for what, settings, cfg, promised in PASSES:
        model = applied(sd15(SMALL), SMALL, settings)
        with counted([model.model.diffusion_model]) as calls:
            in_a_run(model, cfg, 16, lambda step, options: step())
        yield Result(what, {"passes": sum(calls), "model calls": len(calls)}, {"passes": promised})


def attention_counted() -> Iterator[Result]:
    """A counter that missed attention would find the pack to be free."""
    q, kv = torch.empty(1, 8, 4096, 40, device="meta"), torch.empty(1, 8, 77, 40, device="meta")
    with FlopCounterMode(display=False) as counter:
        nn.functional.scaled_dot_product_attention(q, kv, kv)
    two_products = 2 * (2 * 4096 * 77 * 8 * 40)
    values = {"FLOPs": counter.get_total_flops()}
    yield Result("4096 positions, 77 tokens, width 320", values, {"FLOPs": two_products})


def flops() -> Iterator[Result]:
    for what, settings, cfg in STEPS:
        bare, patched = step_cost(None, cfg), step_cost(settings, cfg)
        values = {
            "bare": bare.flops / 1e9,
            "patched": patched.flops / 1e9,
            "ratio": patched.flops / bare.flops,
            "ratio a row": patched.flops * bare.rows / (bare.flops * patched.rows),
            "added beside attention": patched.rest // patched.rows - bare.rest // bare.rows,
            "linears in step": patched.linears,
            "before it": patched.linears_before,
        }
        yield Result(what, values, {"added beside attention": 0, "linears in step": 0})


def step_cost(settings: dict | None, cfg: float) -> StepCost:
    parts = (adapter(FULL).resampler, adapter(FULL).projections)
    linears = [module for part in parts for module in part.model.modules() if isinstance(module, nn.Linear)]
    model = applied(sd15(FULL), FULL, settings)

    def one_step(step: Callable, options: dict) -> StepCost:
        before, counter = len(calls), FlopCounterMode(display=False)
        with counted([model.model.diffusion_model]) as rows, counter:
            step()
        aten, by_operation = torch.ops.aten, counter.get_flop_counts()["Global"]
        rest = sum(by_operation.get(operation, 0) for operation in (aten.mm, aten.addmm, aten.convolution))
        return StepCost(sum(rows), counter.get_total_flops() - rest, rest, len(calls) - before, before)

    with counted(linears) as calls:
        return in_a_run(model, cfg, 64, one_step)


def memory() -> Iterator[Result]:
    projections, resampler = (
        sum(weight.numel() for weight in part.model.parameters())
        for part in (adapter(FULL).projections, adapter(FULL).resampler)
    )
    for dtype, name in ((torch.float16, "fp16"), (torch.float32, "fp32")):
        for guidance in (SIMPLE, THREE_WAY):
            model = applied(sd15(FULL, dtype=dtype), FULL, guidance)
            kept = in_a_run(model, CFG, 8, lambda step, options: keys_values_bytes(options))
            values = {
                "keys and values": kept,
                "projections": projections * dtype.itemsize,
                "whole adapter": (projections + resampler) * dtype.itemsize,
                "of projections": kept / (projections * dtype.itemsize),
            }
            yield Result(f"{guidance['guidance']}, {name}", values)


def keys_values_bytes(transformer_options: dict) -> int:
    running = transformer_options[RUN].adapters
    return sum(x.nbytes for one in running for pair in one.keys_values.sites.values() for x in pair)
