"""What more costs: references, frames and chained adapters, schedules and layer weights, all in simple guidance."""

from __future__ import annotations

from collections.abc import Iterator

from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerWeights
from ipadapter_instruct.models.guidance.weight_schedule import Schedule

from benchmarks.bounds import keys_values, stream_flops, token_flops
from benchmarks.counting import one_step
from benchmarks.models import BASES, SIMPLE, applied, model
from benchmarks.report import Result
from benchmarks.sampling import NOTHING

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


def growth() -> Iterator[Result]:
    """Promise exactly what the bounds say of so many tokens, so that each costs what the first did: a straight line."""
    for base in BASES:
        bare = {latents: one_step(model(base), base, latents=latents) for latents in FRAMES}
        for what, together, latents, chained in LOADS:
            patched = model(base)
            for _ in range(chained):
                patched = applied(patched, base, SIMPLE, latents=latents, tokens=together * TOKENS)
            found = one_step(patched, base, latents=latents)
            alone = bare[latents]["FLOPs"] / bare[latents]["rows"]
            added = found["FLOPs"] / found["rows"] - alone
            values = {
                "ratio a row": 1 + added / alone,
                "MFLOPs added a row": added / 1e6,
                "of them by tokens": (added - chained * stream_flops(base, base.latent)) / 1e6,
                "keys and values": found["keys and values"],
            }
            promised = {
                "of them by tokens": chained * token_flops(base, base.latent, together * TOKENS) / 1e6,
                "keys and values": keys_values(base, tokens=together * latents * chained * TOKENS),
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
            values = {
                "ratio": found["FLOPs"] / bare["FLOPs"],
                "attentions added": found["attentions"] // found["calls"] - bare["attentions"] // bare["calls"],
                "keys and values": found["keys and values"],
            }
            promised = {"attentions added": acting}
            if acting == sites:
                promised["keys and values"] = keys_values(base)
            yield Result(f"{base.title}, {what}", values, promised)
