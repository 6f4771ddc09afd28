"""The trials of a comparison: rows of a manifest, by each adapter, weight and guidance."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .manifest import Manifest, Row

ANY_TASK = ""
NO_ADAPTER = "no adapter"
ONE_A_TASK = "one adapter a task"


@dataclass(frozen=True)
class Contender:
    """A row of the table: an adapter's file, or one for each task.

    files: names, as ComfyUI lists them, by task, ANY_TASK for all of them. fixed: asked in each task's plain words
    alone, where others are asked in one wording of many. bare: at weight 0.
    """

    label: str
    files: Mapping[str, str]
    fixed: bool = False
    bare: bool = False

    def file(self, task: str) -> str | None:
        return self.files.get(task, self.files.get(ANY_TASK))


@dataclass(frozen=True)
class Setting:
    """A weight, how strongly an adapter acts, and the guidance of its instruction."""

    weight: float
    guidance: str


@dataclass(frozen=True)
class Trial:
    """One image to make. key: the same whenever the same image is asked for, by whatever row or contender."""

    key: str
    row: Row
    contender: Contender
    setting: Setting
    file: str
    instruction: str

    @property
    def line(self) -> tuple[str, float, str]:
        """The line of the table that it belongs to."""
        return self.contender.label, self.setting.weight, self.setting.guidance


def trials(manifest: Manifest, contenders: Sequence[Contender], settings: Sequence[Setting]) -> list[Trial]:
    """Return every trial, those of one adapter and reference beside each other, so that a server loads each once."""
    made = [trial for contender in contenders for trial in _of(manifest, contender, settings)]
    return sorted(made, key=lambda trial: (trial.file, manifest.digests[trial.row.reference], trial.key))


def _of(manifest: Manifest, contender: Contender, settings: Sequence[Setting]) -> Iterator[Trial]:
    for setting in (Setting(0.0, "simple"),) if contender.bare else settings:
        for row in manifest.rows:
            file = contender.file(row.task)
            if file is not None:
                instruction = row.wordings[0] if contender.fixed else drawn(row)
                key = _key(manifest, row, setting, file, instruction)
                yield Trial(key, row, contender, setting, file, instruction)


def drawn(row: Row) -> str:
    """Return the wording that a row is asked in: drawn from all, and the same each time."""
    return random.Random(json.dumps(row.content)).choice(row.wordings)


def _key(manifest: Manifest, row: Row, setting: Setting, file: str, instruction: str) -> str:
    said = (row.task, row.prompt, row.seed, row.caption, row.identity, instruction, file)
    said = json.dumps([manifest.digests[row.reference], row.reference, *said, setting.weight, setting.guidance])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
