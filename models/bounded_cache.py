"""The two caches of the pack: for what is made while a model samples, and for what an encoder has made last.

They are two, since a hit in `RunCache` changes nothing: ComfyUI may sample on several devices at once, in a thread
each, and a compiled model would be compiled anew when a dict changes. Only `EncoderCache` can tell what was used last.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")


class RunCache(Generic[T]):
    """A cache of things by their keys, made when first asked for. All are forgotten before they are more than `most`.

    Threads may ask at the same time: each gets what belongs to its key, whatever another forgets meanwhile. There is no
    lock, which a compiled model could not take; two threads that miss one key at once both make it.
    """

    def __init__(self, most: int):
        self._most = most
        self._made: dict[Hashable, T] = {}

    def __len__(self) -> int:
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is cached under `key`, else what `make` gives, which is not None."""
        found = self._made.get(key)
        if found is None:
            found = make()
            if len(self._made) >= self._most:
                self._made.clear()
            self._made[key] = found
        return found


class EncoderCache(Generic[T]):
    """The last things that an owner, such as an encoder, has made, by their keys. They go when the owner goes.

    Each class that is derived from it holds things of its own.
    """

    most: ClassVar[int]
    _by_owner: ClassVar[weakref.WeakKeyDictionary]

    def __init_subclass__(cls) -> None:
        cls._by_owner = weakref.WeakKeyDictionary()

    def __init__(self, owner):
        self.owner: Callable[[], Any] = weakref.ref(owner)  # it outlives what it made
        self._made: OrderedDict[Hashable, T] = OrderedDict()

    @classmethod
    def of(cls, owner):
        """Return the owner's own, made when first asked for."""
        if owner not in cls._by_owner:
            cls._by_owner[owner] = cls(owner)
        return cls._by_owner[owner]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._made

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is cached under `key`, else what `make` gives."""
        found = self._made[key] = self._made[key] if key in self._made else make()
        self._made.move_to_end(key)
        return found

    def forget_oldest(self) -> None:
        """Keep no more than `most`; called when all that is wanted together has been got."""
        while len(self._made) > self.most:
            self._made.popitem(last=False)
