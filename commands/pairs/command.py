"""The command from its arguments to its files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ...models.messages import check_letters
from .. import ROOT
from ..servers.api_prompt import read_workflow
from ..servers.fleet import Fleet
from ..servers.jobs import Result
from ..servers.journal import Journal
from ..servers.progress import say
from ..servers.work import records
from .filtering import check_limits, is_scored, left_out
from .making import Maker
from .recipes import recipe_of
from .rows import Wish, rows_of
from .shards import SHARDS, write_shards
from .sources import read_sources
from .written import FAILED, PAIRS, PairSet, read_lines, write_lines

JOURNAL = "journal.jsonl"
BAD_NAMES = ("", ".", "..")


def make_pairs(wanted: argparse.Namespace) -> int:
    """Make the pairs of a task. Return 0, or 1 when some could not be made."""
    check_arguments(wanted)
    check_limits(wanted)
    maker = maker_of(wanted)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(maker.folder / JOURNAL))
        fleet = stack.enter_context(Fleet(wanted.server, say)) if maker.workflow and wanted.server else None
        places = maker.places(fleet.object_info) if fleet else None
        rows = rows_of(maker.recipe, maker.sources, wish_of(wanted), places)
        keyed = maker.keyed(rows, places, fleet.object_info if fleet else None)
        try:
            failed = maker.make(keyed, places, journal, fleet)
        finally:  # also of what was made until it was stopped; what is to be filtered comes when all is made
            jobs = [maker.job(key, row, places) for key, row in keyed.items()]
            made = records(jobs, journal, maker.is_there)
            pair_set = PairSet(maker.recipe, maker.folder, keyed, made, wanted.instruction)
            if not is_scored(wanted):
                pair_set.write()
        if is_scored(wanted):
            pair_set.write(left_out(pair_set, wanted))
        if wanted.shards:
            write_shards(wanted.output, read_lines(wanted.output / PAIRS), wanted.shards)
    return tell(failed, len(made), maker.folder)


def check_arguments(wanted: argparse.Namespace) -> None:
    """Raises ValueError for numbers, texts and names that make no sense."""
    for name, least in (("per_picture", 1), ("held_out", 0), ("shards", 0)):
        number = getattr(wanted, name)
        if number < least:
            raise ValueError(f"--{name.replace('_', '-')} was expected to be {least} or more; it is {number}.")
    for text in wanted.instruction:
        check_letters("--instruction", text)
    if {"/", "\\"} & set(wanted.task) or wanted.task in (*BAD_NAMES, SHARDS):
        raise ValueError(f"--task was expected to be a name that a folder can have; it is {wanted.task!r}.")


def maker_of(wanted: argparse.Namespace) -> Maker:
    """Return what makes the pairs. Raises ValueError for pictures or a workflow that cannot be used."""
    recipe = recipe_of(wanted.task, bool(wanted.instruction), bool(wanted.workflow))
    shipped = ROOT / "workflows" / f"{recipe.workflow}.json" if recipe.workflow else None
    file = wanted.workflow or shipped
    workflow, name = (read_workflow(file), file.name) if file else (None, "")
    if workflow and not wanted.server:
        if recipe.task != "face" or wanted.workflow:
            raise ValueError(f"A ComfyUI to run {name} on was expected; none is named. Say --server URL.")
        say("Without --server no reference is zoomed on its face.")
    return Maker(recipe, read_sources(wanted.pictures), wanted.output / wanted.task, workflow, name)


def wish_of(wanted: argparse.Namespace) -> Wish:
    prompts = wanted.prompts.read_text(encoding="utf-8").split("\n") if wanted.prompts else []
    prompts = tuple(line.strip() for line in prompts if line.strip())
    return Wish(wanted.per_picture, wanted.held_out, wanted.seed, prompts)


def tell(failed: Sequence[Result], made: int, folder: Path) -> int:
    """Say how it ended, and list the failures. Return the exit code."""
    write_lines(({"picture": one.job.name, "error": one.error} for one in failed), folder / FAILED)
    print(f"{made:,} pairs are in {folder}; {folder.parent / PAIRS} is for all tasks together.")
    if failed:
        print(f"{len(failed):,} could not be made; {folder / FAILED} says why. The same command tries them again.")
    return 1 if failed else 0
