"""Try many spoilt files, or one of them again.

    PYTHONPATH=tools python -m fuzzing [--inputs 100000] [--seed 1] [--host]
    PYTHONPATH=tools python -m fuzzing --replay SEED:INDEX [--keep FILE]

Ends with exit code 1 when an input led to anything but a load or the pack's own error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from fuzzing.inputs import make
from fuzzing.pool import Plan, outcomes
from fuzzing.tally import Tally
from fuzzing.trial import FAULTS, LOAD, REFUSAL

EVERY = 5000  # inputs between two lines
HOSTED = 20


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first input's index")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--host", action="store_true", help=f"read every {HOSTED}th adapter in ComfyUI too")
    parser.add_argument("--messages", type=Path, help="a file to write every distinct refusal into")
    parser.add_argument("--replay", metavar="SEED:INDEX", help="try this one input again, in this process")
    parser.add_argument("--keep", type=Path, help="with --replay: where to leave the file")
    return parser.parse_args()


def replay(place: str, keep: Path | None, host: bool) -> int:
    seed, index = map(int, place.split(":"))
    given, keep = make(seed, index), keep and keep.absolute()
    if keep and given.content is not None:
        keep.write_bytes(given.content)
    with tempfile.TemporaryDirectory() as folder:
        outcome = Plan(seed, 1, index, computed=1, hosted=int(host)).attempt(index, Path(folder))
        os.chdir("/")
    print(f"{given}\n{outcome.verdict}, {outcome.grown:,} bytes: {outcome.message}")
    return int(outcome.verdict in FAULTS)


def run(plan: Plan, messages: Path | None) -> int:
    tally, start = Tally(), time.monotonic()
    for index, outcome in outcomes(plan):
        line = tally.add(index, make(plan.seed, index, with_content=False), outcome)
        if line:
            print(f"{plan.seed}:{index} {line}", flush=True)
        if tally.counts.total() % EVERY == 0:
            print(f"{tally.counts.total():,} inputs, {_rate(tally, start)}", flush=True)
    print("\n".join(tally.table()))
    print(f"{tally.counts.total():,} inputs from seed {plan.seed}, {_rate(tally, start)}, {plan.processes} processes")
    print(f"loads {tally.counts[LOAD]:,}, refusals {tally.counts[REFUSAL]:,} with {tally.distinct} distinct messages")
    print(f"most memory for one input {tally.most_memory / 2**20:.1f} MB")
    print(
        f"faults {len(tally.faults)}: {', '.join(f'{plan.seed}:{index}' for index, _ in tally.faults[:50]) or 'none'}"
    )
    if messages:
        messages.write_text("\n".join(tally.examples()) + "\n", encoding="utf-8")
    return int(bool(tally.faults))


def _rate(tally: Tally, start: float) -> str:
    return f"{tally.counts.total() / (time.monotonic() - start):.0f} a second"


def main() -> int:
    chosen = options()
    torch.set_num_threads(1)
    if chosen.host:
        import benchmarks  # noqa: F401  (makes ComfyUI importable, before the workers are forked)
        from comfyhost.pack import pack_module

        pack_module("models.encoding.loaded_adapter")
    if chosen.replay:
        return replay(chosen.replay, chosen.keep, chosen.host)
    plan = Plan(chosen.seed, chosen.inputs, chosen.first, chosen.processes, hosted=HOSTED if chosen.host else 0)
    return run(plan, chosen.messages)


if __name__ == "__main__":
    sys.exit(main())
