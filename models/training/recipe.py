"""The recipe by which an adapter learns: numbers a user may set, and the learning rate at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..messages import check_choice, check_numbers

FULL, MIXED = "float32", "bf16"
ARITHMETICS = (FULL, MIXED)
LAST = 0.01  # of the highest rate
LARGEST_NUMBER, SMALLEST_NUMBER = 1e9, 1e-12


@dataclass(frozen=True)
class Recipe:
    """The numbers that say how long and how fast an adapter learns, and what it is not shown.

    steps: changes of the weights. batch: pairs in one pass. accumulate: passes before a change.
    rate: the highest learning rate, reached after warm_up steps; from there on half a cosine goes down to a hundredth.
    decay: AdamW's weight decay. clip: the longest gradient. average: how much of the averaged weights each step keeps.
    drop_text, drop_image, drop_both: the shares of examples without them, for classifier-free guidance.
    Source: arXiv 2308.06721 section 4.1; arXiv 2408.03209 section 4.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    rate: float = 1e-4
    warm_up: int = 100
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.999
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    arithmetic: str = FULL
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that nothing can be learnt with."""
        check_choice("arithmetic", self.arithmetic, ARITHMETICS)
        check_numbers(1, LARGEST_NUMBER, steps=self.steps, batch=self.batch, accumulate=self.accumulate)
        check_numbers(0, LARGEST_NUMBER, warm_up=self.warm_up)
        check_numbers(SMALLEST_NUMBER, 1, rate=self.rate)
        check_numbers(SMALLEST_NUMBER, LARGEST_NUMBER, clip=self.clip)
        shares = {name: getattr(self, name) for name in ("drop_text", "drop_image", "drop_both")}
        check_numbers(0, 1, decay=self.decay, average=self.average, **shares, the_dropped_together=self.dropped)

    @property
    def dropped(self) -> float:
        return self.drop_text + self.drop_image + self.drop_both

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the base computes in."""
        return torch.bfloat16 if self.arithmetic == MIXED else torch.float32

    def rate_at(self, step: int) -> float:
        """Return the learning rate at a step, the first being 0."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        position = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.rate * (LAST + (1 - LAST) * (0.5 + 0.5 * math.cos(math.pi * position)))

    def average_at(self, step: int) -> float:
        """Return how much of the average a step keeps: little at first, when there is not much to average."""
        return min(self.average, (1 + step) / (10 + step))
