"""The change of an adapter's weight while an image is sampled, and from latent to latent.

Positions run from 0, the beginning of sampling, to 1, its end: along the model's noise schedule, as start_percent
and end_percent do, or along the steps that are run.
"""

import bisect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..messages import check_choice, check_length, shown

HOLD, LINEAR, SMOOTH = "hold", "linear", "smooth"
BETWEEN = (HOLD, LINEAR, SMOOTH)
NOISE, STEPS = "percent of the schedule", "steps"
ALONG = (NOISE, STEPS)
ROUNDING = 1e-6  # a step that begins at a point counts as past it


@dataclass(frozen=True)
class Schedule:
    """A factor on the weight for every position; before the first point and after the last, it is that point's.

    points: (position, factor), by rising position. between: how factors change from point to point, one of BETWEEN.
    along: what positions are measured on, one of ALONG.
    curve: a factor for each position in 0..1, instead of points and what is between them.
    batch_factors: besides, a factor for each latent of a batch, from the first on again when they are fewer.
    three_way_until: the fraction of the sampling schedule from which on guidance is simple.
    """

    points: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    between: str = HOLD
    along: str = NOISE
    curve: Callable[[float], float] | None = None
    batch_factors: tuple[float, ...] = ()
    three_way_until: float = 1.0

    @property
    def is_steady(self) -> bool:
        """True when the factor is 1 over the whole sampling."""
        return self.curve is None and all(factor == 1 for _, factor in self.points)

    def at(self, position: float) -> float:
        """Return the factor at a position, where a point counts from just before it on."""
        return self.after(bisect.bisect_right([point for point, _ in self.points], position + ROUNDING), position)

    def after(self, begun: int, position: float) -> float:
        """Return the factor at a position, when the first `begun` of the points have begun."""
        if self.curve is not None:
            return float(self.curve(min(max(position, 0.0), 1.0)))
        (start, first), (end, second) = self.points[max(begun - 1, 0)], self.points[min(begun, len(self.points) - 1)]
        if self.between == HOLD or start == end:
            return first
        share = min(max((position - start) / (end - start), 0.0), 1.0)
        if self.between == SMOOTH:
            share = (1 - math.cos(math.pi * share)) / 2
        return first + (second - first) * share


def parse_schedule(text: str, between: str, along: str) -> Schedule:
    """Read a schedule from "0: 1, 0.35: 0.5", positions with factors, or from "1, 0.8, 0.5", factors for equal parts.

    An empty text is 1 throughout. Raises ValueError, which says what was expected, for anything else.
    """
    check_choice("between", between, BETWEEN)
    check_choice("along", along, ALONG)
    check_length("factors", text)
    entries = [entry.strip() for entry in re.split(r"[,;\n]+", text) if entry.strip()]
    if not text.strip():
        return Schedule(between=between, along=along)
    try:
        if ":" not in text:
            return from_list([float(entry) for entry in entries], between, along)
        points = [(float(position), float(factor)) for position, factor in (entry.split(":") for entry in entries)]
    except ValueError:
        points = []  # which make no schedule
    return _checked(Schedule(tuple(points), between, along), text)


def from_list(factors: Sequence[float], between: str = HOLD, along: str = STEPS) -> Schedule:
    """Return a schedule of equal parts, a factor each; over as many steps, one a step. Raises ValueError for none."""
    points = tuple((number / len(factors), float(factor)) for number, factor in enumerate(factors))
    return _checked(Schedule(points, between, along), ", ".join(map(str, factors)))


def _checked(schedule: Schedule, text: str) -> Schedule:
    positions = [position for position, _ in schedule.points]
    rising = all(first < second for first, second in zip(positions, positions[1:], strict=False))
    numbers = all(math.isfinite(number) for point in schedule.points for number in point)
    if not positions or not rising or not numbers or positions[0] < 0 or positions[-1] > 1:
        raise ValueError(
            "A schedule was expected: factors with positions from 0 to 1 that rise, such as 0: 1, 0.35: 0.5, 1: 0, or "
            f"factors alone for equal parts, such as 1, 0.8, 0.5; it is {shown(text)}. Correct it."
        )
    return schedule


class StepPositions:
    """The share of a run's steps that is over at a noise level, also where levels rise, or fall and rise.

    sigmas: the run's levels, one more than it has steps. Where they turn, a level occurs on both sides; so levels have
    to be asked for in the order in which the run comes to them.
    """

    def __init__(self, sigmas: Sequence[float]):
        self._sigmas, self._steps = sigmas, len(sigmas) - 1
        changes = [after - before for before, after in zip(sigmas, sigmas[1:], strict=False)]
        turns = [n for n in range(1, self._steps) if changes[n - 1] * changes[n] < 0]
        edges = [0, *turns, self._steps]
        self._stretches = list(zip(edges, edges[1:], strict=False))
        self._current = 0

    def at(self, sigma: float) -> float:
        first, last = self._stretches[self._current]
        position = step_position(self._sigmas[first : last + 1], sigma)
        if position == 1.0 and self._current < len(self._stretches) - 1:
            self._current += 1
        return (first + position * (last - first)) / self._steps


def step_position(sigmas: Sequence[float], sigma: float) -> float:
    """Return the share of the steps that is over at a noise level.

    sigmas: one more than there are steps, falling or rising. A model call between two steps' levels lies between
    their positions.
    """
    steps = len(sigmas) - 1
    if sigmas[-1] > sigmas[0]:
        sigmas, sigma = [-level for level in sigmas], -sigma
    for number in range(steps):
        before, after = sigmas[number], sigmas[number + 1]
        if sigma > after:
            inside = (before - sigma) / (before - after) if before > after else 0.0
            return (number + max(inside, 0.0)) / steps
    return 1.0


def noise_position(percent_to_sigma: Callable[[float], float], sigma: float) -> float:
    """Return the position on the noise schedule at which the level is `sigma`: the inverse of `percent_to_sigma`.

    percent_to_sigma: falls from 0 to 1. The position is right to a quarter of ROUNDING.
    """
    parts = 2**22
    return bisect.bisect_left(range(1, parts), True, key=lambda n: percent_to_sigma(n / parts) < sigma) / parts
