"""Keeping what is made while a model samples. ComfyUI may sample on several devices at once, in a thread each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Things by their keys, made when first asked for; never more than `most`, before which all are forgotten.

    Threads may ask at the same time: each gets what belongs to its key, and no thing is made twice meanwhile.
    """

    def __init__(self, most: int):
        self._most = most
        self._made: dict[Hashable, T] = {}
        self._making = threading.Lock()

    def __len__(self) -> int:
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under `key`, else what `make` gives, which is not None."""
        found = self._made.get(key)
        if found is not None:
            return found
        with self._making:
            found = self._made.get(key)
            if found is None:
                found = make()
                if len(self._made) >= self._most:
                    self._made.clear()
                self._made[key] = found
            return found
