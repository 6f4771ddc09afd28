"""What the pack costs, and whether it keeps its promises about it.

    PYTHONPATH=tools python tools/bench.py [--quick]

Counts (passes, FLOPs, attentions, linear layers, bytes, image-encoder runs) are the same on every machine; a promised
one that is not met ends with exit code 1. Times are this machine's. ComfyUI runs on the CPU, mostly in this process.
The tables are written to output/bench.md and output/bench.json, too.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import torch
from benchmarks import controls, encoding, growth, loading, reruns, sampling, starting, wall_clock
from benchmarks.report import PROMISES, Report, Topic
from comfyhost.places import REPO_ROOT


def topics(quick: bool) -> list[Topic]:
    starts, seconds = (3, 20) if quick else (5, 80)
    return [
        Topic("Passes a step (rows at SD1.5's UNet)", sampling.passes),
        Topic("That attention and its FLOPs are counted", sampling.attention_counted),
        Topic(
            "A step of the published sizes: GFLOPs; the least that the formulas need; what is added, a model call",
            sampling.flops,
        ),
        Topic("Bytes while a full-size model samples in fp16: what is kept of the adapter", sampling.memory),
        Topic("Growth: a full-size step, simple guidance; bytes kept in fp16", growth.growth),
        Topic("Schedules and layer weights: a full-size step, simple guidance; bytes kept in fp16", controls.controls),
        Topic(
            "Memory beside the file of a full-size adapter, and its loading beside reading the file", loading.loading
        ),
        Topic("Encoder runs", encoding.encoder_runs),
        Topic("What runs again on a server, and the seconds of a small picture", reruns.reruns),
        Topic("Loading the pack at ComfyUI's start (meant: under 50 ms)", partial(starting.start_up, starts)),
        Topic("Time of a small model's step, in bare steps (this machine's)", partial(wall_clock.ratios, seconds)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions of what is timed")
    options = parser.parse_args()
    report = Report()
    print(f"{', '.join(f'{name} {value}' for name, value in report.environment.items())}\n{PROMISES}")
    for topic in topics(options.quick):
        with torch.inference_mode():  # as ComfyUI runs its nodes
            report.add(topic.title, list(topic.measure()))
    report.write(REPO_ROOT / "output")
    broken = report.broken
    for words in broken:
        print(f"BROKEN PROMISE: {words}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
