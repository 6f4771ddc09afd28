"""A sheet of samples: a column for each of a few trials, a row for each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor

from ...models.drawing.label_sheet import labelled_grid
from .pixels import opened, pixels
from .plan import NO_ADAPTER, Contender, Setting, Trial
from .scoring import Image

CELL = 256  # pixels
MOST_COLUMNS = 8


def samples(trials: Sequence[Trial], images: Mapping[str, Image], most: int = MOST_COLUMNS) -> list[tuple]:
    """Return the rows to show, by their content: as many of each task as there is room for, the same each time."""
    by_task: dict[str, dict[tuple, None]] = {}
    for trial in sorted(trials, key=lambda trial: trial.row.content):
        if trial.key in images:
            by_task.setdefault(trial.row.task, {})[trial.row.content] = None
    of_each = max(most // max(len(by_task), 1), 1)
    chosen = [content for task in sorted(by_task) for content in list(by_task[task])[:: _step(by_task[task], of_each)]]
    return chosen[:most]


def _step(found: Mapping, wanted: int) -> int:
    return -(-len(found) // wanted)


def sheet(trials: Sequence[Trial], images: Mapping[str, Image], contenders: Sequence[Contender]) -> PillowImage.Image:
    """Draw references in the first row, and below them what each contender made at each setting."""
    columns = samples(trials, images)
    by_place = {(trial.row.content, trial.contender.label, trial.setting): trial for trial in trials}
    rows = {trial.row.content: images[trial.key] for trial in trials if trial.key in images}
    lines = _lines(trials, contenders)
    blank = torch.ones(CELL, CELL, 3)
    cells = [_cell(rows[content].reference) for content in columns]
    for label, setting in lines:
        shown = (by_place.get((content, label, setting)) for content in columns)
        cells += [_cell(images[one.key].path) if one and one.key in images else blank for one in shown]
    above = [f"{rows[content].row.task}: {rows[content].row.prompt}" for content in columns]
    beside = ["reference", *(_words(label, setting) for label, setting in lines)]
    drawn = labelled_grid(torch.stack(cells), beside, above)[0]
    height, width = drawn.shape[:2]
    return PillowImage.frombytes("RGB", (width, height), (drawn * 255).round().byte().numpy().tobytes())


def _lines(trials: Sequence[Trial], contenders: Sequence[Contender]) -> list[tuple[str, Setting]]:
    labels = [contender.label for contender in contenders]
    found = {(trial.contender.label, trial.setting) for trial in trials}
    return sorted(found, key=lambda line: (labels.index(line[0]), line[1].weight, line[1].guidance))


def _words(label: str, setting: Setting) -> str:
    return label if label == NO_ADAPTER else f"{label}, weight {setting.weight:g}, {setting.guidance}"


def _cell(path: Path) -> Tensor:
    square = ImageOps.pad(opened(path), (CELL, CELL), PillowImage.Resampling.LANCZOS, color="white")
    return pixels(square).movedim(0, -1)
