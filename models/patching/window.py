"""The part of the sampling schedule in which an adapter acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SigmaWindow:
    """Noise levels from `start` down to `end`: both included, or, for a window that another one follows, not `end`."""

    start: float
    end: float
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

    def contains(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start and not (self.followed and sigma == self.end)
