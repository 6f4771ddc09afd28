"""The part of the sampling schedule in which an adapter acts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


def has_begun(level: Tensor, sigma: float | Tensor) -> bool:
    """Tell whether sampling has come to the noise level `sigma`. level: of the step, one number in float32.

    The comparison is torch's, of a tensor with a number, which is rounded to float32 first. It must be: a boundary is
    often just a step's level, and float64 would have the step in or out by chance.
    Source: ComfyUI 0.3.75, samplers.py, `get_area_and_mult`, which does so for ConditioningSetTimestepRange.
    """
    return not bool(level > sigma)


@dataclass(frozen=True)
class SigmaWindow:
    """Noise levels from `start` down to `end`: both included, or, for a window that another one follows, not `end`.

    A step is in a window if ComfyUI's ConditioningSetTimestepRange of the same fractions acts at it.
    """

    start: float | Tensor
    end: float | Tensor
    followed: bool = False

    @classmethod
    def from_percents(
        cls, start_percent: float, end_percent: float, model_sampling, followed: bool = False
    ) -> SigmaWindow | None:
        """The window of two fractions of the schedule; None, which costs nothing, for all of it."""
        if start_percent <= 0.0 and end_percent >= 1.0:
            return None
        return cls(
            model_sampling.percent_to_sigma(start_percent), model_sampling.percent_to_sigma(end_percent), followed
        )

    def contains(self, level: Tensor) -> bool:
        is_over = has_begun(level, self.end) if self.followed else bool(level < self.end)
        return has_begun(level, self.start) and not is_over
