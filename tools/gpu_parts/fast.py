"""The time of a step on the card: bare, simple and three-way, in turn, so that the card's moods cancel.

A three-way step has a row more than a bare one. So it is measured by a bare step with a second positive prompt, too,
which runs as many rows and has no adapter.
"""

import statistics
from functools import partial
from timeit import default_timer

from benchmarks.counting import CFG, in_a_run, one_step
from benchmarks.models import BASES, NARROW, SIMPLE, THREE_WAY, Base, applied, drawn_adapter, drawn_model
from benchmarks.wall_clock import interleaved, seconds

from gpu_parts.incumbent import with_incumbent
from gpu_parts.kernels import kernels_of_a_step
from gpu_parts.run import Run

BATCHES = (1, 4)
STEPS = 3  # in one reading of the clock
TURNS = 3  # at least; to rehearse, there is one of one step
UNET_TARGET = 1.02  # in bare steps of as many rows
BARE, BARE_OF_3, SIMPLE_STEP, THREE_WAY_STEP, INCUMBENT = "bare", "bare, 3 rows", "simple", "three-way", "incumbent"


def measure(run: Run) -> None:
    run.each("steps of", BASES if run.on_card else NARROW, steps_of)


def steps_of(run: Run, base: Base, end: float) -> None:
    """Measure one base model, until the end if that gives turns enough."""
    bare, loaded = drawn_model(base, run.dtype), drawn_adapter(base, run.dtype)
    models = {BARE: (bare, 1), BARE_OF_3: (bare, 2)}
    if run.incumbent and base.family.denoiser == "UNet":
        models[INCUMBENT] = with_incumbent(run.incumbent, bare, base, run.dtype), 1
    simple, three_way = (applied(bare, base, settings, loaded=loaded) for settings in (SIMPLE, THREE_WAY))
    models |= {SIMPLE_STEP: (simple, 1), THREE_WAY_STEP: (three_way, 1)}
    share = one_step(simple, base)["FLOPs"] / one_step(bare, base)["FLOPs"]
    # An MMDiT's adapter multiplies the streams anew at each step; a UNet's multiplies next to nothing.
    most = share if base.family.denoiser == "MMDiT" else UNET_TARGET
    for number, latents in enumerate(BATCHES):
        with run.kept(f"a step of {base.title}, batch {latents}"):
            run.check_time()
            runs = {name: partial(seconds_of_a_step, run, base, latents, *model) for name, model in models.items()}
            room = (end - default_timer()) / (len(BATCHES) + 1 - number)  # the last is for the kernels
            turns = interleaved(runs, default_timer() + (room if run.on_card else 0), TURNS if run.on_card else 1)
            report(run, f"{base.title} at {8 * base.latent} pixels, batch {latents}", turns, most)
    with run.kept(f"kernels of {base.title}"):
        run.check_time()
        kernels_of_a_step(run, simple, base)


def seconds_of_a_step(run: Run, base: Base, latents: int, model, positives: int) -> float:
    steps = STEPS if run.on_card else 1
    use = partial(seconds, steps=steps)
    return in_a_run(model, base, CFG, use, latents=latents, positives=positives) / steps


def report(run: Run, what: str, turns: list[dict[str, float]], most: float) -> None:
    def median(name: str, of: str) -> float:
        return statistics.median(turn[name] / turn[of] for turn in turns)

    ratios = [median(SIMPLE_STEP, BARE), median(THREE_WAY_STEP, BARE_OF_3), median(THREE_WAY_STEP, BARE)]
    words = f"{ratios[0]:.3f} / {ratios[1]:.3f} {run.verdict(f'{most:.3f}', max(ratios[:2]) <= most)} / {ratios[2]:.3f}"
    incumbent = f"; IPAdapter Plus {median(INCUMBENT, BARE):.3f}" if INCUMBENT in turns[0] else ""
    figure = f"{words}{incumbent}; bare {1000 * statistics.median(turn[BARE] for turn in turns):.1f} ms"
    what = f"a step of {what}, in bare steps: simple / three-way, to 3 bare rows / three-way"
    run.emit(what, figure, target=most, turns=turns)
