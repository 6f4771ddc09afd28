"""Try many spoilt files, or one of them again.

    PYTHONPATH=tools python -m fuzzing [--inputs 100000] [--seed 1] [--host]
    PYTHONPATH=tools python -m fuzzing --replay SEED:INDEX [--keep FILE]

Ends with exit code 1 when an input led to anything but a load or the pack's own error.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from fuzzing.inputs import make
from fuzzing.pool import Plan, outcomes
from fuzzing.trial import FAULTS, LOAD, REFUSAL, attempt

EVERY = 5000  # inputs between two lines
HOSTED = 20


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--host", action="store_true", help=f"read every {HOSTED}th adapter in ComfyUI too")
    parser.add_argument("--replay", metavar="SEED:INDEX", help="try this one input again, in this process")
    parser.add_argument("--keep", type=Path, help="with --replay: where to leave the file")
    return parser.parse_args()


def replay(place: str, keep: Path | None, host: bool) -> int:
    given = make(*map(int, place.split(":")))
    if keep:
        keep.write_bytes(given.content)
    with tempfile.TemporaryDirectory() as folder:
        outcome = attempt(given, Path(folder), host=host)
        os.chdir("/")
    print(f"{given}\n{outcome.verdict}, {outcome.grown:,} bytes: {outcome.message}")
    return int(outcome.verdict in FAULTS)


def run(plan: Plan) -> int:
    start, verdicts, messages, most, faults = time.monotonic(), Counter(), set(), 0, []
    for index, outcome in outcomes(plan):
        verdicts[outcome.verdict] += 1
        most = max(most, outcome.grown)
        if outcome.verdict == REFUSAL:
            messages.add(re.sub(r"\d[\d,.]*", "N", outcome.message))
        elif outcome.verdict in FAULTS:
            faults.append(f"{plan.seed}:{index}")
            print(f"{faults[-1]} {outcome.verdict.upper()} {make(plan.seed, index)}: {outcome.message}", flush=True)
        if verdicts.total() % EVERY == 0 or verdicts.total() == plan.count:
            rate = verdicts.total() / (time.monotonic() - start)
            print(f"{verdicts.total():,} inputs from seed {plan.seed}, {rate:.0f} a second", flush=True)
    print(f"loads {verdicts[LOAD]:,}, refusals {verdicts[REFUSAL]:,} with {len(messages)} distinct messages")
    print(f"most memory for one input {most / 2**20:.1f} MB")
    print(f"faults {len(faults)}: {', '.join(faults[:50]) or 'none'}")
    return int(bool(faults))


def main() -> int:
    chosen = options()
    torch.set_num_threads(1)
    if chosen.host:
        import benchmarks  # noqa: F401  (makes ComfyUI importable, before the workers are forked)
        from comfyhost.in_process import pack_module

        pack_module("models.encoding.loaded_adapter")
    if chosen.replay:
        return replay(chosen.replay, chosen.keep, chosen.host)
    return run(Plan(chosen.seed, chosen.inputs, chosen.processes, HOSTED if chosen.host else 0))


if __name__ == "__main__":
    sys.exit(main())
