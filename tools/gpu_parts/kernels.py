"""The kernels that the pack's own attention launches in one step, and the gaps between them, by torch's profiler."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.counting import CFG, in_a_run
from benchmarks.models import Base
from benchmarks.wall_clock import finish
from ipadapter_instruct.models.denoisers.cross_attention_patch import CrossAttentionPatch
from ipadapter_instruct.models.denoisers.joint_attention_patch import JointImageAttention
from torch.profiler import ProfilerActivity, profile, record_function

from gpu_parts.run import Run

MARK = "attention to image tokens"
PATCHES = {"UNet": CrossAttentionPatch, "MMDiT": JointImageAttention}
ON_CARD = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver", "cpu_op")  # the last for a CPU, which launches nothing
WAITS = ("Synchronize", "DtoH")  # in names of calls and of copies


def kernels_of_a_step(run: Run, model, base: Base) -> None:
    """Write what the attentions to image tokens of a simple step launch, and how long the card waits between."""
    with marked(PATCHES[base.family.denoiser]):
        found = summed(in_a_run(model, base, CFG, lambda step, options: traced(run, step)))
    of_each = {name: found[name] / max(found["attentions"], 1) for name in ("kernels", "kernel us", "gap us", "CPU us")}
    figure = ", ".join(f"{name} {value:.3g}" for name, value in of_each.items())
    run.emit(f"an attention to image tokens of {base.title}", f"{figure}; waits {found['waits']}", **found)


@contextmanager
def marked(patch: type) -> Iterator[None]:
    original = patch._image_attention

    def marking(*args):
        with record_function(MARK):
            return original(*args)

    patch._image_attention = marking
    try:
        yield
    finally:
        patch._image_attention = original


def traced(run: Run, step) -> list[dict]:
    """Return the events of a step, as Chrome's trace format has them."""
    step()
    finish()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if run.on_card else [])]
    with profile(activities=activities) as profiler:
        step()
        finish()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def summed(events: list[dict]) -> dict[str, float]:
    """Sum up the marked parts of a trace, in microseconds. On a CPU its operations stand for kernels."""
    events = sorted((event for event in events if event.get("ph") == "X"), key=lambda event: event["ts"])
    kernels = {event["args"]["correlation"]: event for event in events if event.get("cat") in ON_CARD}
    marks = [event for event in events if (event.get("cat"), event["name"]) == ("user_annotation", MARK)]
    found: Counter = Counter(attentions=len(marks))
    for mark in marks:
        own = [e for e in events if e.get("cat") in LAUNCHES and 0 <= e["ts"] - mark["ts"] < mark["dur"]]
        launched = [kernels[n] for n in (e.get("args", {}).get("correlation") for e in own) if n in kernels] or own
        pairs = zip(launched, launched[1:], strict=False)
        found["kernels"] += len(launched)
        found["kernel us"] += sum(event["dur"] for event in launched)
        found["gap us"] += sum(max(0, later["ts"] - earlier["ts"] - earlier["dur"]) for earlier, later in pairs)
        found["CPU us"] += mark["dur"]
        found["waits"] += sum(any(word in event["name"] for word in WAITS) for event in (*own, *launched))
    return found
