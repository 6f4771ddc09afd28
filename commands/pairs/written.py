"""The files that a set of pairs is: pairs.jsonl to train on, the part that is held out, and what is left out and why.

pairs/style/pairs.jsonl, held_out.jsonl, images/    a task, to train an adapter for it alone
pairs/pairs.jsonl, held_out.jsonl                   all tasks that are there, to train one adapter for them
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..servers.journal import write_file
from .recipes import CAPTION, RECIPES, REFERENCE, TARGET, Recipe
from .rows import Row

PAIRS, HELD_OUT, FAILED, DROPPED = "pairs.jsonl", "held_out.jsonl", "failed.jsonl", "dropped.jsonl"
PICTURES = ("reference", "target")


@dataclass(frozen=True)
class PairSet:
    """The pairs of one task that there are, in its folder. rows, made: by their keys; the latter are the files.

    instructions: of a task of the user's own.
    """

    recipe: Recipe
    folder: Path
    rows: Mapping[str, Row]
    made: Mapping[str, Mapping[str, str]]
    instructions: Sequence[str]

    def trained(self) -> dict[str, dict]:
        """Return the lines of the pairs to train on, by their keys."""
        return {key: self.line(key, row) for key, row in self.rows.items() if key in self.made and not row.held_out}

    def trials(self) -> list[dict]:
        """Return the lines of what is held out, as cli.py evaluate reads them."""
        return [self.trial(key, row) for key, row in self.rows.items() if key in self.made and row.held_out]

    def line(self, key: str, row: Row) -> dict:
        made, given = self.made[key], [row.instruction] if row.instruction else list(self.instructions)
        caption = row.caption or made.get(CAPTION, "")
        line = {"reference": made[REFERENCE], "target": made[TARGET], "caption": caption, "task": self.recipe.task}
        return {**line, "instruction": given} if given else line

    def trial(self, key: str, row: Row) -> dict:
        line = self.line(key, row)
        kept = {name: line[name] for name in ("reference", "task", "instruction") if name in line}
        more = {"caption": row.source.caption or self.made[key].get(CAPTION, "")}
        more |= {"identity": row.source.identity} if self.recipe.task == "face" else {}
        named = {name: text for name, text in more.items() if text}
        return {**kept, "prompt": line["caption"], "seed": row.seed, **named}

    def write(self, dropped: Collection[str] = ()) -> None:
        """Write the lists of this task, and those of all tasks in the folder around it. dropped: keys to leave out."""
        trained = [line for key, line in self.trained().items() if key not in dropped]
        for name, lines in ((PAIRS, trained), (HELD_OUT, self.trials())):
            write_lines(lines, self.folder / name)
            join(self.folder.parent, name)


def write_lines(lines: Iterable[Mapping[str, object]], target: Path) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(text.encode("utf-8"), target)


def read_lines(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").split("\n") if text]


def join(output: Path, name: str) -> None:
    """Write a file of all tasks' lines, in the order of the tasks; pictures are named from the folder around them."""
    tasks = [path.parent.name for path in output.glob(f"*/{name}")]
    known = list(RECIPES)
    lines = []
    for task in sorted(tasks, key=lambda task: (known.index(task) if task in known else len(known), task)):
        for line in read_lines(output / task / name):
            lines.append({**line, **{field: f"{task}/{line[field]}" for field in PICTURES if field in line}})
    write_lines(lines, output / name)
