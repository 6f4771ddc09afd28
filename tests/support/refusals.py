"""A refusal, and what its message says."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def refused(call: Callable[[], object], *parts: str) -> None:
    """`call` raises a ValueError whose message has these parts, in this order."""
    with pytest.raises(ValueError) as caught:
        call()
    rest = str(caught.value)
    for part in parts:
        assert part in rest, f"{part!r} should stand in the rest of: {caught.value}"
        rest = rest.split(part, 1)[1]
