"""The part of the sampling schedule in which an adapter acts."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def level_at(percent: float, model_sampling) -> float:
    """Return the noise level at a fraction of the schedule, rounded to float32, as the levels of a run's steps are.

    A boundary is often just a step's level: in float64 the step would be in or out by chance.
    Source: ComfyUI 0.3.75, samplers.py, `get_area_and_mult`, where torch rounds the boundaries of
    ConditioningSetTimestepRange so, to compare them with a step's level.
    """
    return torch.tensor(float(model_sampling.percent_to_sigma(percent)), dtype=torch.float32).item()


@dataclass(frozen=True)
class SigmaWindow:
    """The noise levels from `start` down to `end`: both included, or, for a window that another one follows, not `end`.

    A step is in a window if ComfyUI's ConditioningSetTimestepRange of the same fractions acts at it.
    """

    start: float
    end: float
    end_is_exclusive: bool = False

    @classmethod
    def from_percents(
        cls, start_percent: float, end_percent: float, model_sampling, end_is_exclusive: bool = False
    ) -> SigmaWindow | None:
        """Return the window of two fractions of the schedule; None, which costs nothing, for all of it."""
        if start_percent <= 0.0 and end_percent >= 1.0:
            return None
        return cls(level_at(start_percent, model_sampling), level_at(end_percent, model_sampling), end_is_exclusive)

    def contains(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start and not (self.end_is_exclusive and sigma == self.end)
