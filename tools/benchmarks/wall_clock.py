"""How long a patched step takes beside a bare one. Times of one machine, taken in turn so that its moods cancel."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from ipadapter_instruct.models.patching.watch import watched

from benchmarks.counting import in_a_run
from benchmarks.models import SIMPLE, SMALL, THREE_WAY, applied, fill, real_model
from benchmarks.report import Result

LATENTS = (32, 64)
LEAST_TURNS = 5


def ratios(seconds_in_all: float) -> Iterator[Result]:
    """As many turns as the time allows, and five at least."""
    torch.set_num_threads(1)  # several wait for each other when the machine is busy
    bare = real_model(SMALL)
    fill(bare.model.diffusion_model)
    models = {
        "bare": bare,
        "simple": applied(bare, SMALL, SIMPLE),
        "simple, watched": watched(applied(bare, SMALL, SIMPLE))[0],
        "three-way": applied(bare, SMALL, THREE_WAY),
    }
    for latent in LATENTS:
        yield from at_size(models, latent, seconds_in_all / len(LATENTS))


def at_size(models: dict, latent: int, seconds_in_all: float) -> Iterator[Result]:
    times, end = [], time.perf_counter() + seconds_in_all
    while len(times) < LEAST_TURNS or time.perf_counter() < end:
        times.append({name: in_a_run(model, SMALL, 7.0, seconds, latent) for name, model in models.items()})
    for name, rows in (("simple", 2), ("simple, watched", 2), ("three-way", 3)):
        found = [turn[name] / turn["bare"] for turn in times]
        median = statistics.median(found)
        values = {"median": median, "min": min(found), "max": max(found), "median a row": median * 2 / rows}
        values["turns"] = len(times)
        yield Result(f"{latent}x{latent} latents, {name}, {rows} rows to 2", values)


def seconds(step: Callable, options: dict) -> float:
    step()  # the first is slower
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
