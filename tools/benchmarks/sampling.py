"""The cost of a sampling run, in counts: passes, FLOPs, attentions, linear layers, bytes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from torch import nn

from benchmarks.bounds import ATTENTION_PRODUCTS, SIZES, keys_values, stream_flops, token_flops
from benchmarks.counting import CFG, Work, counted, in_a_run, one_step
from benchmarks.models import BASES, FILE_DTYPE, SIMPLE, SMALL, THREE_WAY, Base, adapter, applied, model
from benchmarks.report import Result

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
META = torch.device("meta")
NEAR = 1.005  # of the least that a step must cost
SMALL_LATENT = 16  # what is kept doesn't depend on it


def passes() -> Iterator[Result]:
    for what, settings, cfg, promised in PASSES:
        patched = applied(model(SMALL), SMALL, settings)
        with counted([patched.model.diffusion_model]) as rows:
            in_a_run(patched, SMALL, cfg, lambda step, options: step())
        yield Result(what, {"passes": sum(rows), "model calls": len(rows)}, {"passes": promised})


def attention_counted() -> Iterator[Result]:
    """Check that attention is counted: a counter that missed it would find the pack to be free."""
    q, kv = torch.empty(1, 8, 4096, 40, device="meta"), torch.empty(1, 8, 77, 40, device="meta")
    with Work() as work:
        nn.functional.scaled_dot_product_attention(q, kv, kv)
    found, two_products = work.counts(), 2 * (2 * 4096 * 77 * 8 * 40)
    values = {"attentions": found["attentions"], "its FLOPs": found["attention FLOPs"], "all FLOPs": found["FLOPs"]}
    promised = {"attentions": 1, "its FLOPs": two_products, "all FLOPs": two_products}
    yield Result("4096 positions, 77 tokens, width 320", values, promised)


def flops() -> Iterator[Result]:
    """Promise that a row costs what `bounds` says it must, and not half a percent more.

    A model call runs one more attention a site and the linear layers of `site_linears`, and multiplies no other
    matrices than the bare model does. What ran before the step shows that linear layers are seen at all.
    """
    for base in BASES:
        sites = len(base.site_widths)
        promised = {
            "products a site": ATTENTION_PRODUCTS + base.site_linears,
            "attentions added": sites,
            "linears": sites * base.site_linears,
            "other FLOPs": 0,
            "linears before": sites * base.token_linears,
        }
        for pixels, latent in SIZES.items():
            for what, settings, cfg in STEPS:
                values = step_beside_bare(base, settings, cfg, latent)
                yield Result(f"{base.title} {pixels} pixels, {what}", values, promised, {"to the bound": NEAR})


def step_beside_bare(base: Base, settings: dict, cfg: float, latent: int) -> dict[str, float]:
    loaded = adapter(base, FILE_DTYPE)
    loaded.streams_device = META  # as the model's: else copies of its layers would run
    linears = linear_layers(loaded)
    bare = one_step(model(base), base, cfg, latent)
    patched = one_step(applied(model(base), base, settings), base, cfg, latent, linears=linears)
    least = bare["FLOPs"] / bare["rows"] + token_flops(base, latent) + stream_flops(base, latent)

    def added(name: str) -> float:
        """Return what a call of the patched model has more than one of the bare model."""
        return patched[name] / patched["calls"] - bare[name] / bare["calls"]

    def models_own(found: dict) -> int:
        """Return the FLOPs a row outside attentions and the adapter."""
        return (found["FLOPs"] - found["attention FLOPs"] - found["linear FLOPs"]) // found["rows"]

    return {
        "bare": bare["FLOPs"] / 1e9,
        "patched": patched["FLOPs"] / 1e9,
        "ratio a row": patched["FLOPs"] / patched["rows"] / (bare["FLOPs"] / bare["rows"]),
        "to the bound": patched["FLOPs"] / patched["rows"] / least,
        "products a site": added("products") / len(base.site_widths),
        "attentions added": added("attentions"),
        "linears": patched["linears"] / patched["calls"],
        "other FLOPs": models_own(patched) - models_own(bare),
        "linears before": patched["linears before"],
    }


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
            found = one_step(applied(model(base), base, settings, file_dtype), base, size=SMALL_LATENT)
            bytes_kept = found["keys and values"] + found["stream matrices"]
            matrices = nbytes(*attention_parts(loaded))
            values = {
                "keys and values": found["keys and values"],
                "stream matrices": found["stream matrices"],
                "kept": bytes_kept,
                "all its matrices": matrices,
                "whole adapter": matrices + nbytes(loaded.image_projection.model),
                "of its matrices": bytes_kept / matrices,
            }
            squares = sum(width**2 for width in base.site_widths)
            promised = {
                "keys and values": keys_values(base, branches),
                "stream matrices": base.site_linears * squares * file_dtype.itemsize,
            }
            yield Result(f"{base.title}, {what}", values, promised)


def nbytes(*modules: nn.Module) -> int:
    return sum(weight.nbytes for module in modules for weight in module.parameters())
