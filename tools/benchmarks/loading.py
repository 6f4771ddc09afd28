"""The cost of an adapter of the published size, loaded and used: memory beside the file, time beside reading the file.

Each file is measured in a process of its own. Only memory that is the process's own counts: pages of a mapped file are
the system's, which takes them back when it needs them.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from timeit import timeit

import psutil
import torch
from comfyhost.adapters import instruct_adapter, nested
from comfyhost.places import TOOLS
from comfyhost.weights import draw
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from safetensors.torch import save_file

from benchmarks.models import BASES, Base
from benchmarks.report import Result

FP16, FLOAT32 = "fp16 .safetensors", "float32 .bin"
FILES = (*((base, FP16) for base in BASES), (BASES[0], FLOAT32))
# In files, and in all: a .bin is read whole. Layers are widened to float32 one at a time.
MOST = {FP16: 0.2, FLOAT32: 1.2}
READS = 3


def loading() -> Iterator[Result]:
    for base, kind in FILES:
        with tempfile.TemporaryDirectory() as folder:
            path = write_adapter(base, kind, Path(folder))
            size = path.stat().st_size
            command = [sys.executable, "-m", "benchmarks.loading", str(path)]
            done = subprocess.run(command, cwd=TOOLS, stdout=subprocess.PIPE, check=True)
            most, ratio = json.loads(done.stdout.splitlines()[-1])
        held = {f"held {stage}, in files": most[stage] / size for stage in most}
        values = {"MB": round(size / 1e6), **held, "loading, in readings of the file": ratio}
        yield Result(f"{base.title}, {kind}", values, most=dict.fromkeys(held, MOST[kind]))


def write_adapter(base: Base, kind: str, folder: Path) -> Path:
    shapes, path = instruct_adapter(base.family.name, base.site_widths), folder / kind.replace(" ", "")
    if kind == FP16:
        save_file(draw(shapes, seed=0, dtype=torch.float16), path)
    else:
        torch.save(nested(draw(shapes, seed=0, dtype=torch.float32)), path)
    return path


def measure(path: Path) -> tuple[dict[str, int], float]:
    """Return the most bytes held in each stage, and the median of loading beside reading the file."""
    torch.nn.Linear(8, 8)(torch.zeros(1, 8))  # the first takes memory of its own
    before, read, held = anonymous(), partial(LoadedAdapter.read, path), {}
    adapter, held["loading"] = most_held(read)
    texts = torch.randn(1, 77, 768), torch.randn(1, 77, 768)
    tokens, held["encoding"] = most_held(lambda: adapter.image_tokens(torch.randn(1, 257, 1280), *texts))
    rows = torch.randn(4, 16, 1536) if adapter.family.denoiser == "MMDiT" else tokens.expand(4, -1, -1)
    _, held["applying"] = most_held(lambda: adapter.keys_values(rows, torch.float16))
    ratios = [timeit(read, number=1) / timeit(path.read_bytes, number=1) for _ in range(READS)]
    return {stage: most - before for stage, most in held.items()}, statistics.median(ratios)


def most_held(call: Callable) -> tuple[object, int]:
    """Return what the call gives, and the most bytes of memory that the process held meanwhile."""
    seen, ended = [anonymous()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            seen.append(anonymous())

    with ThreadPoolExecutor(1) as thread:
        thread.submit(watch)
        try:
            made = call()
        finally:
            ended.set()
    return made, max(*seen, anonymous())


def anonymous() -> int:
    """Return the bytes of memory that are the process's own."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


if __name__ == "__main__":
    with torch.inference_mode():
        print(json.dumps(measure(Path(sys.argv[1]))))
