"""The memory of loading, encoding and sampling on the card, beside what `make bench` counts.

ComfyUI leaves a model on the card for as long as there is room. So in the midst of a run it is asked for all the room
that it can make: then only what the run needs is left.
"""

import comfy.model_management as mm
import torch
from benchmarks import models
from benchmarks.counting import CFG, in_a_run, kept
from benchmarks.models import SIMPLE, THREE_WAY, Base, applied, drawn_adapter, drawn_model
from benchmarks.wall_clock import finish
from ipadapter_instruct.models.encoding.image_encoder import image_features, zero_hidden_states

from gpu_parts.run import Run, megabytes

SMALL_ENCODER = {"num_hidden_layers": 3}
ALL_ROOM = 1e30  # bytes
SLACK = 8e6  # bytes that PyTorch and its libraries may take for themselves
RUNS = {  # settings of Apply, None for the bare model; positive prompts
    "bare": (None, 1),
    "bare, 3 rows": (None, 2),
    "simple": (SIMPLE, 1),
    "three-way": (THREE_WAY, 1),
}
BARE = {"simple": "bare", "three-way": "bare, 3 rows"}  # of as many rows


def measure(run: Run) -> None:
    for base in models.BASES if run.on_card else models.NARROW:
        with run.kept(f"memory of {base.title}"):
            run.check_time()
            mm.unload_all_models()
            memory_of(run, base)


def memory_of(run: Run, base: Base) -> None:
    before = run.memory()
    encoder = models.image_encoder(**({} if run.on_card else SMALL_ENCODER))
    loaded = drawn_adapter(base, run.dtype)
    took = run.memory() - before
    run.emit(f"on the card after loading image encoder and adapter, {base.title}", megabytes(took), bytes=took)
    encoding(run, base, encoder, loaded)
    bare, found = drawn_model(base, run.dtype), {}
    for name, (settings, positives) in RUNS.items():
        run.check_time()
        model = applied(bare, base, settings, loaded=loaded)
        found[name] = sampling(run, base, model, loaded, positives)
    left = encoder.patcher.loaded_size() + loaded.image_projection.loaded_size()
    report(run, base, found, left)


def encoding(run: Run, base: Base, encoder, loaded) -> None:
    before = run.memory()
    run.reset_peak()
    features = image_features(encoder, torch.rand(1, 512, 512, 3)).hidden_states
    zero_hidden_states(encoder)
    loaded.image_tokens(features, torch.randn(1, 77, 768), torch.randn(1, 77, 768))
    finish()
    peak = run.peak() - before
    weights = encoder.patcher.model_size() + loaded.image_projection.model_size()
    figure = f"{megabytes(peak)}; the weights of image encoder and resampler are {megabytes(weights)}"
    run.emit(f"peak of encoding a picture, {base.title}", figure, peak=peak, weights=weights)


def sampling(run: Run, base: Base, model, loaded, positives: int) -> dict[str, int]:
    """Return the bytes that a run holds between its steps, that a step takes at most, and that are counted."""

    def use(step, options: dict) -> dict[str, int]:
        step()
        make_room([model, *([loaded.streams] if loaded.streams else [])])
        finish()
        held = run.memory()
        run.reset_peak()
        step()
        finish()
        return {"held": held, "peak": run.peak(), "counted": sum(kept(options).values())}

    return in_a_run(model, base, CFG, use, positives=positives)


def make_room(wanted: list) -> None:
    """Have ComfyUI unload all but these models."""
    own = [patcher.model for patcher in wanted]
    keep = [one for one in mm.current_loaded_models if any(one.model.model is model for model in own)]
    mm.free_memory(ALL_ROOM, mm.get_torch_device(), keep)


def report(run: Run, base: Base, found: dict[str, dict[str, int]], left: int) -> None:
    figure = f"{megabytes(left)} {run.verdict('0', left == 0)}"
    run.emit(f"left of image encoder and resampler on the card in a run, {base.title}", figure, bytes=left)
    for name, bare in BARE.items():
        held, counted = found[name]["held"] - found["bare"]["held"], found[name]["counted"]
        figure = f"{megabytes(held)} / {megabytes(counted)} {run.verdict('what is counted', held <= counted + SLACK)}"
        run.emit(f"kept of the adapter between steps, {base.title} {name}: seen / counted", figure, seen=held)
        peak, of_bare = found[name]["peak"], found[bare]["peak"]
        figure = f"{megabytes(peak)}, {peak / of_bare:.3f} times that of a bare step of as many rows"
        run.emit(f"peak of a step, {base.title} {name}", figure, **found[name], bare=of_bare)
