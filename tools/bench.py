"""What the pack costs, and whether it keeps its promises about it.

    PYTHONPATH=tools python tools/bench.py [--quick]

Counts (passes, FLOPs, attentions, linear layers, bytes, image-encoder runs) are the same on every machine; a promised
one that is not met ends with exit code 1. Times are this machine's. ComfyUI runs on the CPU, mostly in this process.
The tables are written to output/bench.md and output/bench.json, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import torch
from benchmarks import encoding, growth, loading, reruns, sampling, starting, wall_clock
from benchmarks.report import Report, Result
from comfyhost.places import REPO_ROOT


def measurements(quick: bool) -> dict[str, Iterator[Result]]:
    """The topics by title; none is measured before its results are asked for."""
    starts, seconds = (3, 20) if quick else (5, 80)
    step = "a full-size step, simple guidance; bytes kept in fp16"
    of_a_step = "GFLOPs; the least that the formulas need; what is added, a model call"
    return {
        "Passes a step (rows at SD1.5's UNet)": sampling.passes(),
        "That attention and its FLOPs are counted": sampling.attention_counted(),
        f"A step of the published sizes: {of_a_step}": sampling.flops(),
        "Bytes while a full-size model samples in fp16: what is kept of the adapter": sampling.memory(),
        f"Growth: {step}": growth.growth(),
        f"Schedules and layer weights: {step}": growth.controls(),
        "Memory beside the file of a full-size adapter, and its loading beside reading the file": loading.loading(),
        "Encoder runs": encoding.encoder_runs(),
        "What runs again on a server, and the seconds of a small picture": reruns.reruns(),
        "Loading the pack at ComfyUI's start (meant: under 50 ms)": starting.start_up(starts),
        "Time of a small model's step, in bare steps (this machine's)": wall_clock.ratios(seconds),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions of what is timed")
    report = Report()
    for title, results in measurements(parser.parse_args().quick).items():
        with torch.inference_mode():  # as ComfyUI runs its nodes
            report.add(title, list(results))
    report.write(REPO_ROOT / "output")
    for words in report.broken:
        print(f"BROKEN PROMISE: {words}", file=sys.stderr)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
