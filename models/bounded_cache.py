"""A cache for what is made while a model samples. ComfyUI may sample on several devices at once, in a thread each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """A store of things by their keys, made when first asked for. All are forgotten before they are more than `most`.

    Threads may ask at the same time: each gets what belongs to its key, whatever another forgets meanwhile. There is no
    lock, which a compiled model could not take; two threads that miss one key at once both make it.
    """

    def __init__(self, most: int):
        self._most = most
        self._made: dict[Hashable, T] = {}

    def __len__(self) -> int:
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under `key`, else what `make` gives, which is not None."""
        found = self._made.get(key)
        if found is None:
            found = make()
            if len(self._made) >= self._most:
                self._made.clear()
            self._made[key] = found
        return found
