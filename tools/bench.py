"""Measure what the pack costs, and whether it keeps its promises about it.

    PYTHONPATH=tools python tools/bench.py                   all topics
    PYTHONPATH=tools python tools/bench.py growth encoder    those with one of these words in their titles

Counts (passes, FLOPs, attentions, linear layers, bytes, image-encoder runs) are the same on every machine; a promised
one that is not met ends with exit code 1. Times are this machine's. ComfyUI runs on the CPU, mostly in this process.
The tables are written to output/bench.md, too.
"""

import sys
from collections.abc import Iterator

import torch
from benchmarks import loading, reruns, sampling, starting, wall_clock
from benchmarks.report import Result, environment, table
from comfyhost.places import REPO_ROOT

PAGE = REPO_ROOT / "output" / "bench.md"


def measurements() -> dict[str, Iterator[Result]]:
    """The topics by title; none is measured before its results are asked for."""
    step = "a full-size step, simple guidance; bytes kept in fp16"
    of_a_step = "GFLOPs; the least that the formulas need; what is added, a model call"
    return {
        "Passes a step (rows at SD1.5's UNet)": sampling.passes(),
        "That attention and its FLOPs are counted": sampling.attention_counted(),
        f"A step of the published sizes: {of_a_step}": sampling.flops(),
        "Bytes while a full-size model samples in fp16: what is kept of the adapter": sampling.memory(),
        f"Growth: {step}": sampling.growth(),
        f"Schedules and layer weights: {step}": sampling.controls(),
        "Memory beside the file of a full-size adapter, and its loading beside reading the file": loading.loading(),
        "Encoder runs": reruns.encoder_runs(),
        "What runs again on a server, and the seconds of a small picture": reruns.reruns(),
        "Loading the pack at ComfyUI's start (meant: under 50 ms)": starting.start_up(runs=5),
        "Time of a small model's step, in bare steps (this machine's)": wall_clock.ratios(seconds_in_all=80),
    }


def main(words: list[str]) -> int:
    about = [f"- {name}: {value}" for name, value in environment().items()]
    page, broken = ["# What the pack costs", "", *about, "", "Promised values are marked =, or ! when not met."], []
    print(*page, sep="\n")
    for title, topic in measurements().items():
        if words and not any(word in title.lower() for word in words):
            continue
        with torch.inference_mode():  # as ComfyUI runs its nodes
            results = list(topic)
        part = ["", f"## {title}", "", *table(results)]
        print(*part, sep="\n", flush=True)
        page += part
        broken += [f"{title}, {one.what}: {words}" for one in results for words in one.broken.values()]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")
    for words in broken:
        print(f"BROKEN PROMISE: {words}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
