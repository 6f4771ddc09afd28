"""The paper's table in the small world: does an instruction decide what crosses over from a picture?

    PYTHONPATH=tools python -m small_world.table [--count 500] [--sweep-count 100] [--adapters joint ...] [--tasks ...]

Each adapter is tried on held-out references of each of its tasks, with weight 1 and simple guidance, and the joint one
with other weights, three-way guidance and prompts that contradict the instruction too; attributes are read back from
the pixels. Writes output/small_world.md
and .json.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from comfyhost.places import REPO_ROOT

from small_world.conditions import HELD_OUT, PLAINLY, Condition, Outcome, conditions, outcome
from small_world.reader import read
from small_world.scenes import ATTRIBUTES, TASKS
from small_world.train_adapter import FIXED, JOINT, NAMES, stored_adapter
from small_world.transfer import Encoded, Setting, Transfer, short_world

COUNT, SWEEP_COUNT = 500, 100
AT_ONCE = 2  # processes, each on a core
WEIGHTS = (0.4, 0.6, 0.8, 1.0, 1.2)
GUIDANCES = ("simple", "three-way")
COLUMNS = ("adapter", "setting", "conditions", "task", "asked", "others", "leak", *ATTRIBUTES)


def tried(task: str, names: Sequence[str], count: int) -> list[dict]:
    """A row for each of the adapters that has learnt a task."""
    transfer, rows = Transfer(short_world()), []
    states = transfer.hidden_states(conditions(task, count))
    for name in [one for one in names if one in (task, JOINT, FIXED)]:
        own = conditions(task, count, PLAINLY if name == FIXED else HELD_OUT)
        batches = transfer.encoded(stored_adapter(name), own, states)
        rows.append(measured(transfer, name, Setting(), own, batches))
    return rows


def swept(task: str, sweep: Sequence[Setting], count: int) -> list[dict]:
    """A row of the joint adapter for each setting, and one for prompts that contradict the instruction."""
    transfer = Transfer(short_world())
    own, against = conditions(task, count), conditions(task, count, contradicting=True)
    states = transfer.hidden_states(own)
    batches = transfer.encoded(stored_adapter(JOINT), own, states)
    rows = [measured(transfer, JOINT, how, own, batches) for how in sweep]
    batches = transfer.encoded(stored_adapter(JOINT), against, states)
    return [*rows, measured(transfer, JOINT, Setting(), against, batches, ", prompt contradicts")]


def measured(
    transfer: Transfer,
    name: str,
    how: Setting,
    own: Sequence[Condition],
    batches: Sequence[Encoded],
    note: str = "",
) -> dict:
    began = time.monotonic()
    seen = [read(picture) for picture in transfer.pictures(batches, how)]
    found = row(name, f"{how}{note}", outcome(own, seen))
    print(line(found), f"{time.monotonic() - began:.0f} s", flush=True)
    return found


def row(name: str, setting: str, found: Outcome) -> dict:
    shares = {"asked": found.asked, "others": found.others, "leak": found.leak}
    return {"adapter": name, "setting": setting, "count": found.count, "task": found.task, **shares, **asdict(found)}


def line(found: dict) -> str:
    """A line of the table: for each attribute the reference's share, and the prompt's."""
    shares = [f"{found['of_reference'][name]:.2f} / {found['of_prompt'][name]:.2f}" for name in ATTRIBUTES]
    numbers = ["" if found[name] is None else f"{found[name]:.3f}" for name in ("asked", "others", "leak")]
    first = [found["adapter"], found["setting"], str(found["count"]), found["task"]]
    return "| " + " | ".join([*first, *numbers, *shares]) + " |"


def table(rows: Sequence[dict]) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS)
    return "\n".join([head, *map(line, rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help="conditions a task, at weight 1 with simple guidance")
    parser.add_argument("--sweep-count", type=int, default=SWEEP_COUNT, help="and at other settings, by the joint one")
    parser.add_argument("--adapters", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--weights", nargs="+", type=float, default=list(WEIGHTS))
    parser.add_argument("--guidances", nargs="+", choices=GUIDANCES, default=list(GUIDANCES))
    wanted = parser.parse_args()
    asked = [Setting(0.0), *(Setting(w, g) for g in wanted.guidances for w in wanted.weights)]
    sweep = [setting for setting in asked if setting != Setting()]
    jobs = [partial(tried, task, wanted.adapters, wanted.count) for task in wanted.tasks]
    jobs += [partial(swept, task, sweep, wanted.sweep_count) for task in wanted.tasks if JOINT in wanted.adapters]
    with ProcessPoolExecutor(AT_ONCE, get_context("fork"), on_one_thread) as workers:
        made = [workers.submit(job) for job in jobs]
        rows = [row for job in made for row in job.result()]
    write(rows, REPO_ROOT / "output")
    return 0


def on_one_thread() -> None:
    """Start a worker."""
    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(1)


def write(rows: Sequence[dict], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "small_world.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (folder / "small_world.md").write_text(table(rows) + f"\n\ntorch {torch.__version__}\n", encoding="utf-8")
    print(folder / "small_world.md")


if __name__ == "__main__":
    sys.exit(main())
