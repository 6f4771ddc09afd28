"""What the pack costs, and whether it keeps its promises about it.

    PYTHONPATH=tools python tools/bench.py [--quick] [--json]

Counts (passes, FLOPs, attentions, linear layers, bytes, image-encoder runs) are the same on every machine; a promised
one that is not met ends with exit code 1. Times are this machine's. ComfyUI runs on the CPU, mostly in this process.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import torch
from benchmarks import controls, encoding, references, sampling, starting, wall_clock
from benchmarks.report import Topic, environment, print_json, print_table


def topics(quick: bool) -> list[Topic]:
    starts, seconds = (3, 10) if quick else (5, 45)
    return [
        Topic("Passes a step (rows at SD1.5's UNet)", sampling.passes),
        Topic("That attention and its FLOPs are counted", sampling.attention_counted),
        Topic(
            "A full-size step: GFLOPs; attentions added and the adapter's linear layers, a model call", sampling.flops
        ),
        Topic("Bytes while a full-size model samples in fp16: what is kept of the adapter", sampling.memory),
        Topic(
            "Several references: a full-size step of 16 latents, simple guidance; bytes kept in fp16",
            references.references,
        ),
        Topic("Schedules and layer weights: a full-size step, simple guidance; bytes kept in fp16", controls.controls),
        Topic("Image-encoder runs", encoding.image_encoder_runs),
        Topic("Loading the pack at ComfyUI's start (meant: under 50 ms)", partial(starting.start_up, starts)),
        Topic("Time of a small UNet's step, in bare steps (this machine's)", partial(wall_clock.ratios, seconds)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions of what is timed")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of tables")
    options = parser.parse_args()
    show = print_json if options.json else print_table
    broken = []
    if not options.json:
        print(environment())
    for topic in topics(options.quick):
        with torch.inference_mode():  # as ComfyUI runs its nodes
            results = list(topic.measure())
        show(topic.title, results)
        broken += [f"{topic.title}, {result.what}: {words}" for result in results for words in result.broken]
    for words in broken:
        print(f"BROKEN PROMISE: {words}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
