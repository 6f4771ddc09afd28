"""The time of a patched step beside a bare one's. Both are one machine's, taken in turn so that its moods cancel.

Beside the time a row takes stand the FLOPs it takes, both in those of a bare row.
"""

import statistics
from collections.abc import Callable, Iterator
from timeit import default_timer, timeit

import torch
from ipadapter_instruct.models.attention_maps.record import watched

from benchmarks.counting import CFG, in_a_run, one_step
from benchmarks.models import SIMPLE, SMALL, SMALL_SD3, THREE_WAY, applied, fill, real_model
from benchmarks.report import Result

LATENTS = (32, 64)
LEAST_TURNS = 5
ROWS = {"simple": 2, "simple, watched": 2, "three-way": 3}


def ratios(seconds_in_all: float) -> Iterator[Result]:
    """Measure in as many turns as the time allows, and five at least."""
    torch.set_num_threads(1)  # several wait for each other when the machine is busy
    for base in (SMALL, SMALL_SD3):
        bare = real_model(base)
        fill(bare.model.diffusion_model)
        simple, three_way = (applied(bare, base, settings, torch.float32) for settings in (SIMPLE, THREE_WAY))
        models = {"bare": bare, "simple": simple, "simple, watched": watched(simple)[0], "three-way": three_way}
        for size in LATENTS:
            work = {name: one_step(model, base, size=size)["FLOPs"] for name, model in models.items()}
            times, end = [], default_timer() + seconds_in_all / 2 / len(LATENTS)
            while len(times) < LEAST_TURNS or default_timer() < end:
                times.append({name: in_a_run(model, base, CFG, seconds, size) for name, model in models.items()})
            for name, rows in ROWS.items():
                found = [turn[name] / turn["bare"] for turn in times]
                median = statistics.median(found)
                values = {"median": median, "min": min(found), "max": max(found), "median a row": median * 2 / rows}
                values |= {"FLOPs a row": work[name] / work["bare"] * 2 / rows, "turns": len(times)}
                yield Result(f"{base.title}, {size}x{size} latents, {name}, {rows} rows to 2", values)


def seconds(step: Callable, options: dict) -> float:
    step()  # the first is slower
    return timeit(step, number=1)
