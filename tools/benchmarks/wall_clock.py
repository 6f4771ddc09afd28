"""The time of a patched step beside a bare one's. Both are one machine's, taken in turn so that its moods cancel.

Beside the time a row takes stand the FLOPs it takes, both in those of a bare row.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from timeit import default_timer, timeit

import comfy.model_management as mm
import torch
from ipadapter_instruct.models.attention_maps.record import watched

from benchmarks.counting import CFG, in_a_run, one_step
from benchmarks.models import SIMPLE, SMALL, SMALL_SD3, THREE_WAY, applied, drawn_model
from benchmarks.report import Result

LATENTS = (32, 64)
LEAST_TURNS = 5
ROWS = {"simple": 2, "simple, watched": 2, "three-way": 3}


def ratios(seconds_in_all: float) -> Iterator[Result]:
    """Measure in as many turns as the time allows, and five at least."""
    torch.set_num_threads(1)  # several wait for each other when the machine is busy
    for base in (SMALL, SMALL_SD3):
        bare = drawn_model(base)
        simple, three_way = (applied(bare, base, settings, torch.float32) for settings in (SIMPLE, THREE_WAY))
        models = {"bare": bare, "simple": simple, "simple, watched": watched(simple)[0], "three-way": three_way}
        for size in LATENTS:
            work = {name: one_step(model, base, size=size)["FLOPs"] for name, model in models.items()}
            runs = {name: partial(in_a_run, model, base, CFG, seconds, size) for name, model in models.items()}
            turns = interleaved(runs, default_timer() + seconds_in_all / 2 / len(LATENTS))
            for name, rows in ROWS.items():
                found = [turn[name] / turn["bare"] for turn in turns]
                median = statistics.median(found)
                values = {"median": median, "min": min(found), "max": max(found), "median a row": median * 2 / rows}
                values |= {"FLOPs a row": work[name] / work["bare"] * 2 / rows, "turns": len(turns)}
                yield Result(f"{base.title}, {size}x{size} latents, {name}, {rows} rows to 2", values)


def interleaved(
    runs: Mapping[str, Callable[[], float]], end: float, least: int = LEAST_TURNS
) -> list[dict[str, float]]:
    """Let all run in turn until the end, by `default_timer`; return what each gave in each turn."""
    turns = []
    while len(turns) < least or default_timer() < end:
        turns.append({name: run() for name, run in runs.items()})
    return turns


def seconds(step: Callable, options: dict, steps: int = 1) -> float:
    """Return the time of so many steps, which the device has then done."""
    step()  # the first is slower
    finish()

    def all_steps() -> None:
        for _ in range(steps):
            step()
        finish()

    return timeit(all_steps, number=1)


def finish() -> None:
    """Wait until a graphics card has done what it was given."""
    if mm.get_torch_device().type == "cuda":
        torch.cuda.synchronize()
