"""Try many spoilt files, or one of them again, whose file is kept then.

    PYTHONPATH=tools python -m fuzzing [--inputs 100000] [--seed 1] [--replay SEED:INDEX]

Ends with exit code 1 when an input led to anything but a load or the pack's own error.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import benchmarks  # noqa: F401  (makes ComfyUI importable, before the workers are forked)
import torch
from comfyhost.in_process import pack_module
from tqdm import tqdm

from fuzzing.inputs import make
from fuzzing.pool import Plan, outcomes
from fuzzing.trial import FAULTS


def replay(plan: Plan, index: int) -> int:
    given, kept = make(plan.seed, index), Path(tempfile.mkdtemp(prefix="fuzz-"))
    with tempfile.TemporaryDirectory() as folder:
        outcome = plan.attempt(index, Path(folder))
        os.chdir(kept)
    print(f"{given}, left at {given.write(kept)}\n{outcome.verdict}, {outcome.grown:,} bytes: {outcome.message}")
    return int(outcome.verdict in FAULTS)


def run(plan: Plan) -> int:
    verdicts, most = Counter(), 0
    for index, outcome in tqdm(outcomes(plan), "inputs", plan.count, mininterval=10):
        verdicts[outcome.verdict] += 1
        most = max(most, outcome.grown)
        if outcome.verdict in FAULTS:
            print(f"{plan.seed}:{index} {outcome.verdict} {make(plan.seed, index)}: {outcome.message}", flush=True)
    print(f"{dict(verdicts)}; most memory for one input {most / 2**20:.1f} MB")
    return int(any(verdicts[fault] for fault in FAULTS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", metavar="SEED:INDEX", help="try this one input again, in this process")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    pack_module("models.encoding.loaded_adapter")  # once, for all workers
    if chosen.replay:
        seed, index = map(int, chosen.replay.split(":"))
        return replay(Plan(seed, host=True), index)
    return run(Plan(chosen.seed, chosen.inputs, min(2, os.cpu_count() or 1), host=True))


if __name__ == "__main__":
    sys.exit(main())
