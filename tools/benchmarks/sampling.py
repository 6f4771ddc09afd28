"""The cost of a sampling run, in counts: passes, FLOPs, attentions, linear layers, bytes."""

from collections.abc import Iterator

import torch
from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerWeights
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from torch import nn

from benchmarks.bounds import ATTENTION_PRODUCTS, SIZES, keys_values, stream_flops, token_flops
from benchmarks.counting import CFG, Work, counted, in_a_run, one_step
from benchmarks.models import BASES, FILE_DTYPE, SIMPLE, SMALL, THREE_WAY, adapter, applied, model
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
FRAMES = (1, 4, 16, 64)
LOADS = (  # what, references of a latent together, latents in a batch with references of their own, adapters
    *((f"references together: {n}", n, 1, 1) for n in (1, 2, 4, 8)),
    *((f"frames, each its own reference: {n}", 1, n, 1) for n in FRAMES),
    *((f"adapters in a chain: {n}", 1, 1, n) for n in (1, 2, 3, 4)),
)
CONTROLS = (  # what, settings of Apply, how many sites act in each family that knows them; None for all
    ("nothing of it", {}, None),
    ("a schedule of 1", {"schedule": Schedule(points=((0.0, 1.0),))}, None),
    ("a schedule, at 0", {"schedule": NOTHING}, {"SD1.5": 0, "SDXL": 0, "SD3": 0}),
    ("ease in", {"layers": LayerWeights("ease in")}, None),
    ("style transfer", {"layers": LayerWeights("style transfer")}, {"SD1.5": 11, "SDXL": 10}),
    ("K+V", {"layers": LayerWeights(scaling=KV)}, {"SD1.5": 16, "SDXL": 70}),
)
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
        loaded = adapter(base, FILE_DTYPE)
        loaded.streams_device = torch.device("meta")  # as the model's: else copies of its layers would run
        parts = (loaded.image_projection.model, *attention_parts(loaded))
        linears = [module for part in parts for module in part.modules() if isinstance(module, nn.Linear)]
        for pixels, latent in SIZES.items():
            must = token_flops(base, latent) + stream_flops(base, latent)
            for what, settings, cfg in STEPS:
                bare = one_step(model(base), base, cfg, latent)
                patched = one_step(applied(model(base), base, settings), base, cfg, latent, linears=linears)
                row, other = a_row(bare), other_flops(patched) - other_flops(bare)
                values = {
                    "bare": bare["FLOPs"] / 1e9,
                    "patched": patched["FLOPs"] / 1e9,
                    "ratio a row": a_row(patched) / row,
                    "to the bound": a_row(patched) / (row + must),
                    "products a site": added("products", patched, bare) / sites,
                    "attentions added": added("attentions", patched, bare),
                    "linears": patched["linears"] / patched["calls"],
                    "other FLOPs": other,
                    "linears before": patched["linears before"],
                }
                yield Result(f"{base.title} {pixels} pixels, {what}", values, promised, {"to the bound": NEAR})


def a_row(step: dict[str, int]) -> float:
    return step["FLOPs"] / step["rows"]


def added(name: str, patched: dict[str, int], bare: dict[str, int]) -> float:
    """Return what a call of the patched model has more than one of the bare model."""
    return patched[name] / patched["calls"] - bare[name] / bare["calls"]


def other_flops(step: dict[str, int]) -> int:
    """Return the FLOPs a row outside attentions and the adapter."""
    return (step["FLOPs"] - step["attention FLOPs"] - step["linear FLOPs"]) // step["rows"]


def attention_parts(loaded) -> list[nn.Module]:
    """Return all of the adapter but its resampler."""
    return [loaded.projections, *([loaded.streams.model] if loaded.streams else [])]


def memory() -> Iterator[Result]:
    """Promise 16 tokens' keys and values for every branch and site, and SD3's four square matrices a site."""
    for base in BASES:
        squares = base.site_linears * sum(width**2 for width in base.site_widths)
        for what, settings, branches, file_dtype in KEPT:
            loaded = adapter(base, file_dtype)
            found = one_step(applied(model(base), base, settings, file_dtype), base, size=SMALL_LATENT)
            parts = {name: found[name] for name in ("keys and values", "stream matrices")}
            kept, matrices = sum(parts.values()), nbytes(*attention_parts(loaded))
            values = {
                **parts,
                "kept": kept,
                "all its matrices": matrices,
                "whole adapter": matrices + nbytes(loaded.image_projection.model),
                "of its matrices": kept / matrices,
            }
            promised = {
                "keys and values": keys_values(base, branches),
                "stream matrices": squares * file_dtype.itemsize,
            }
            yield Result(f"{base.title}, {what}", values, promised)


def nbytes(*modules: nn.Module) -> int:
    return sum(weight.nbytes for module in modules for weight in module.parameters())


def growth() -> Iterator[Result]:
    """Promise exactly what the bounds say of so many tokens, so that each costs what the first did: a straight line."""
    for base in BASES:
        bare = {latents: a_row(one_step(model(base), base, latents=latents)) for latents in FRAMES}
        streams = stream_flops(base, base.latent)
        for what, together, latents, chained in LOADS:
            patched, tokens = model(base), together * TOKENS
            for _ in range(chained):
                patched = applied(patched, base, SIMPLE, latents=latents, tokens=tokens)
            found = one_step(patched, base, latents=latents)
            more = a_row(found) - bare[latents]
            values = {
                "ratio a row": 1 + more / bare[latents],
                "MFLOPs added a row": more / 1e6,
                "of them by tokens": (more - chained * streams) / 1e6,
                "keys and values": found["keys and values"],
            }
            promised = {
                "of them by tokens": chained * token_flops(base, base.latent, tokens) / 1e6,
                "keys and values": keys_values(base, tokens=tokens * latents * chained),
            }
            yield Result(f"{base.title}, {what}", values, promised)


def controls() -> Iterator[Result]:
    """Promise attentions and kept bytes of the sites that act, and of no others."""
    for base in BASES:
        bare, sites = one_step(model(base), base), len(base.site_widths)
        for what, settings, numbers in CONTROLS:
            acting = sites if numbers is None else numbers.get(base.title)
            if acting is None:
                continue
            found = one_step(applied(model(base), base, {**SIMPLE, **settings}), base)
            kept = {"keys and values": found["keys and values"]}
            values = {"ratio": found["FLOPs"] / bare["FLOPs"], "attentions added": added("attentions", found, bare)}
            all_kept = {"keys and values": keys_values(base)} if acting == sites else {}
            yield Result(f"{base.title}, {what}", {**values, **kept}, {"attentions added": acting, **all_kept})
