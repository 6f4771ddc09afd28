"""Checks of values that a user chooses from a few."""

from __future__ import annotations

from collections.abc import Sequence

PRECISIONS = ("fp16", "bf16")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `choices`. ComfyUI 0.3.75 does not check V3 combos itself."""
    if value not in choices:
        raise ValueError(f"{name} was expected to be one of {', '.join(choices)}; it is {value!r}. Choose one of them.")
