"""The table: for each task, a line for each adapter, weight and guidance, with intervals and counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from ...models.guidance.tasks import KNOWN
from .plan import NO_ADAPTER, Trial
from .scores import SCORES
from .scoring import Sample, Scored

RESAMPLES, DRAWN_AT_ONCE = 2000, 100
SHARE = 0.95  # of the resampled means that lie in the interval
RESAMPLING_SEED = 0
DIGITS = 6  # that are kept of a number: fewer than two runs of the same may differ in


@dataclass(frozen=True)
class Mean:
    """A score's mean over `count` samples, None for none, and its interval; none where there is but one unit."""

    mean: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Line:
    """A line of the table. count: images. scores: by name."""

    task: str
    adapter: str
    weight: float
    guidance: str
    count: int
    scores: Mapping[str, Mean]


def lines_of(trials: Sequence[Trial], scored: Scored, labels: Sequence[str]) -> list[Line]:
    """Return the table's lines: known tasks first, adapters in the order of their labels, weights from low to high."""
    parts: dict[tuple, list[Trial]] = {}
    for trial in trials:
        if trial.key in scored.images:
            parts.setdefault((trial.row.task, *trial.line), []).append(trial)
    tasks = [*KNOWN, *sorted({trial.row.task for trial in trials} - set(KNOWN))]
    lines = [_line(key, part, scored) for key, part in parts.items()]
    return sorted(lines, key=lambda i: (tasks.index(i.task), labels.index(i.adapter), i.weight, i.guidance))


def _line(key: tuple, part: Sequence[Trial], scored: Scored) -> Line:
    scores = {name: mean_of(samples) for name, samples in scored.samples(part).items()}
    distance = scored.frechet(part)
    if distance is not None:
        scores["FID"] = Mean(round(distance, DIGITS), None, None, len(part))
    marks = [scores[name].mean for name in ("CP", "PF") if name in scores]
    if len(marks) == 2 and None not in marks:
        scores["CP x PF"] = Mean(round(math.prod(marks), DIGITS), None, None, scores["CP"].count)
    return Line(*key, count=len(part), scores={s.name: scores[s.name] for s in SCORES if s.name in scores})


def mean_of(samples: Sequence[Sample]) -> Mean:
    """Return the mean and its bootstrap interval, whatever the order of the samples.

    What is drawn again is a whole reference or identity: the images made of one are alike.
    """
    if not samples:
        return Mean(None, None, None, 0)
    units: dict[str, list[float]] = {}
    for sample in sorted(samples, key=lambda sample: (sample.unit, sample.value)):
        units.setdefault(sample.unit, []).append(sample.value)
    sums = torch.tensor([sum(values) for values in units.values()], dtype=torch.float64)
    counts = torch.tensor([len(values) for values in units.values()], dtype=torch.float64)
    mean = round(float(sums.sum() / counts.sum()), DIGITS)
    if len(units) == 1:
        return Mean(mean, None, None, len(samples))
    generator, means = torch.Generator().manual_seed(RESAMPLING_SEED), []
    for _ in range(RESAMPLES // DRAWN_AT_ONCE):
        drawn = torch.randint(len(units), (DRAWN_AT_ONCE, len(units)), generator=generator)
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    outside = (1 - SHARE) / 2
    ends = torch.quantile(torch.cat(means), torch.tensor([outside, 1 - outside], dtype=torch.float64))
    low, high = (round(end, DIGITS) for end in ends.tolist())
    return Mean(mean, low, high, len(samples))


def as_json(lines: Sequence[Line], notes: Mapping[str, object]) -> str:
    return json.dumps({**notes, "lines": [asdict(line) for line in lines]}, indent=1) + "\n"


def as_markdown(lines: Sequence[Line], notes: Sequence[str]) -> str:
    """Return a table for each task, what its columns mean, and notes."""
    used = [score for score in SCORES if any(score.name in line.scores for line in lines)]
    tasks = dict.fromkeys(line.task for line in lines)
    tables = [_of_task(task, [line for line in lines if line.task == task]) for task in tasks]
    share = f"{SHARE:.0%} bootstrap intervals, {RESAMPLES:,} draws of references"
    said = f"In brackets {share}. A star marks the paper's scores of a task."
    better = {True: "higher", False: "lower"}
    meanings = [f"- **{score.name}**: {score.meaning}; {better[score.higher]} is better" for score in used]
    return "\n\n".join([*tables, said, "\n".join(meanings), *notes]) + "\n"


def _of_task(task: str, lines: Sequence[Line]) -> str:
    columns = [score for score in SCORES if any(score.name in line.scores for line in lines)]
    heads = [score.name + ("\\*" if task in score.paper else "") for score in columns]
    rows = [["adapter", "weight", "guidance", "images", *heads], ["---"] * (4 + len(heads))]
    for line in lines:
        how = ["", ""] if line.adapter == NO_ADAPTER else [f"{line.weight:g}", line.guidance]
        cells = [_cell(line.scores.get(score.name), line.count) for score in columns]
        rows.append([line.adapter.replace("|", "\\|"), *how, f"{line.count:,}", *cells])
    return f"## {task}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(mean: Mean | None, count: int) -> str:
    if mean is None or mean.mean is None:
        return "" if mean is None else "n 0"
    interval = "" if mean.low is None else f" [{mean.low:.4f}, {mean.high:.4f}]"
    of = "" if mean.count == count else f", n {mean.count:,}"
    return f"{mean.mean:.4f}{interval}{of}"
