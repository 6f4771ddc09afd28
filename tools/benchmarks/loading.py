"""The cost of an adapter of the published size, loaded and used: memory beside the file, time beside reading the file.

Each file is measured in a process of its own. Only memory that is the process's own counts (RssAnon): pages of a
mapped file are the system's, which takes them back when it needs them. Linux says both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from comfyhost.adapters import instruct_adapter, nested
from comfyhost.places import REPO_ROOT
from comfyhost.weights import draw
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from safetensors.torch import save_file

from benchmarks.models import BASES, Base
from benchmarks.report import Result

STATUS = Path("/proc/self/status")
FP16, FLOAT32 = "fp16 .safetensors", "float32 .bin"
FILES = (*((base, FP16) for base in BASES), (BASES[0], FLOAT32))
# In files, and in all: a .bin is read whole. Layers are widened to float32 one at a time.
MOST = {FP16: 0.2, FLOAT32: 1.2}
STAGES = "loading", "encoding", "applying"
READS = 3


def loading() -> Iterator[Result]:
    """Load an adapter of each family in half precision, and one as published."""
    for base, kind in FILES:
        with tempfile.TemporaryDirectory() as folder:
            path = write_adapter(base, kind, Path(folder))
            found = in_a_process_of_its_own(path)
        held = {f"held {stage}, in files": found[stage] / found["bytes"] for stage in STAGES}
        values = {"MB": round(found["bytes"] / 1e6), **held, "loading, in readings of the file": found["ratio"]}
        yield Result(f"{base.title}, {kind}", values, most=dict.fromkeys(held, MOST[kind]))


def write_adapter(base: Base, kind: str, folder: Path) -> Path:
    shapes = instruct_adapter(base.family.name, base.site_widths)
    if kind == FP16:
        save_file(draw(shapes, seed=0, dtype=torch.float16), folder / "adapter.safetensors")
        return folder / "adapter.safetensors"
    torch.save(nested(draw(shapes, seed=0, dtype=torch.float32)), folder / "adapter.bin")
    return folder / "adapter.bin"


def in_a_process_of_its_own(path: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT / "tools")}
    command = [sys.executable, "-m", "benchmarks.loading", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measure(path: Path) -> dict:
    """Return the file's bytes, the most bytes held in each stage, and the median of loading beside reading the file."""
    torch.nn.Linear(8, 8)(torch.zeros(1, 8))  # the first takes memory of its own
    before, held = anonymous(), {}
    adapter, held["loading"] = most_held(lambda: LoadedAdapter.read(path))
    texts = torch.randn(1, 77, 768), torch.randn(1, 77, 768)
    tokens, held["encoding"] = most_held(lambda: adapter.image_tokens(torch.randn(1, 257, 1280), *texts))
    rows = torch.randn(4, 16, 1536) if adapter.family.denoiser == "MMDiT" else tokens.expand(4, -1, -1)
    _, held["applying"] = most_held(lambda: adapter.keys_values(rows, torch.float16))
    ratios = sorted(seconds(lambda: LoadedAdapter.read(path)) / seconds(path.read_bytes) for _ in range(READS))
    stages = {stage: most - before for stage, most in held.items()}
    return {"bytes": path.stat().st_size, **stages, "ratio": ratios[READS // 2]}


def most_held(call: Callable) -> tuple[object, int]:
    """Return what the call gives, and the most bytes of memory that the process held meanwhile."""
    seen, ended = [anonymous()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            seen.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = call()
    finally:
        seen.append(anonymous())
        ended.set()
        watcher.join()
    return made, max(seen)


def anonymous() -> int:
    """Return the bytes of memory that are the process's own."""
    return 1024 * int(STATUS.read_text(encoding="utf-8").split("RssAnon:")[1].split()[0])


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    with torch.inference_mode():
        print(json.dumps(measure(Path(sys.argv[1]))))
