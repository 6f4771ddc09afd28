"""The cost of schedules and layer weights while sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from comfyhost.adapters import TOKENS
from ipadapter_instruct.models.guidance.layer_weights import KV, LayerWeights
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counting import Attentions, counted, in_a_run
from benchmarks.models import BASES, SIMPLE, Base, applied, model
from benchmarks.report import Result
from benchmarks.sampling import CFG, FILE_DTYPE, NOTHING, kept

BRANCHES = 2  # of simple guidance


@dataclass(frozen=True)
class Case:
    """The settings that are on, and how many sites must act in each family that knows them; None for all."""

    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    acting: dict[str, int] | None = None


NONE = {"SD1.5": 0, "SDXL": 0, "SD3": 0}
CASES = (
    Case("nothing of it"),
    Case("a schedule of 1", {"schedule": Schedule(points=((0.0, 1.0),))}),
    Case("a schedule, at 0", {"schedule": NOTHING}, NONE),
    Case("ease in", {"layers": LayerWeights("ease in")}),
    Case("style transfer", {"layers": LayerWeights("style transfer")}, {"SD1.5": 11, "SDXL": 10}),
    Case("K+V", {"layers": LayerWeights(scaling=KV)}, {"SD1.5": 16, "SDXL": 70}),
)


def controls() -> Iterator[Result]:
    """Promise attentions and kept bytes of the sites that act, and of no others."""
    for base in BASES:
        bare = step(base, None)
        for case in CASES:
            if case.acting is not None and base.title not in case.acting:
                continue
            found = step(base, {**SIMPLE, **case.settings})
            values = {
                "ratio": found["flops"] / bare["flops"],
                "attentions added": found["attentions"] - bare["attentions"],
                "keys and values": found["bytes"],
            }
            yield Result(f"{base.title}, {case.what}", values, promised(base, case))


def promised(base: Base, case: Case) -> dict[str, int]:
    acting = len(base.site_widths) if case.acting is None else case.acting[base.title]
    found = {"attentions added": acting}
    if acting == len(base.site_widths):
        found["keys and values"] = 2 * BRANCHES * TOKENS * sum(base.site_widths) * torch.float16.itemsize
    return found


def step(base: Base, settings: dict | None) -> dict[str, int]:
    """Count one full-size step, which is one call of the model."""
    patched = applied(model(base), base, settings, FILE_DTYPE)

    def one_step(run_step: Callable, options: dict) -> dict[str, int]:
        attentions, counter = Attentions(), FlopCounterMode(display=False)
        with counted([patched.model.diffusion_model]) as rows, attentions, counter:
            run_step()
        calls = len(rows)
        return {
            "flops": counter.get_total_flops(),
            "attentions": attentions.calls // calls,
            "bytes": kept(run_step, options)[0] if settings is not None else 0,
        }

    return in_a_run(patched, base, CFG, one_step)
