"""How fast the world's models learn."""

from __future__ import annotations

import math

LAST = 0.01  # of the highest rate


def warm_up_and_cosine(step: int, steps: int, highest: float, warm_up: int) -> float:
    """The rate at a step: up in a straight line, then down in half a cosine to a hundredth."""
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * (LAST + (1 - LAST) * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
