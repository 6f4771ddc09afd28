"""The texts that a CLIP has encoded last, so that when one changes the others are not encoded again.

ComfyUI runs a whole node again when one of its texts changes.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from torch import Tensor

from ..messages import check_letters
from .text_encoder import encode_texts

T = TypeVar("T")
TEXTS_KEPT = 32  # a text's states: 0.24 MB for the resampler, 3 MB as SD3's conditioning


def text_states(clip, texts: Iterable[str]) -> dict[str, Tensor]:
    """Return each text's states [1, L, D], as `encode_texts` gives them."""
    return KeptTexts.of(clip).encoded("states", texts, lambda text: encode_texts(clip, [text])[text])


def conditionings(clip, texts: Iterable[str]) -> list[list]:
    """Encode each text just as CLIP Text Encode does. Raises ValueError for half a character."""

    def encode(text: str) -> list:
        check_letters("A text", text)
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    texts = list(texts)
    found = KeptTexts.of(clip).encoded(("conditioning", clip.layer_idx), texts, encode)
    return [[[states, dict(more)] for states, more in found[text]] for text in texts]


class KeptTexts:
    """The last encoded texts of one CLIP. They go when the CLIP goes.

    A CLIP that a node has changed is another one, or has other patches; one with hooks is encoded anew each time.
    """

    _by_clip: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __init__(self, clip):
        self._clip: Callable[[], Any] = weakref.ref(clip)  # it outlives its texts
        self._kept: OrderedDict[Hashable, object] = OrderedDict()

    @classmethod
    def of(cls, clip) -> KeptTexts:
        if clip not in cls._by_clip:
            cls._by_clip[clip] = cls(clip)
        return cls._by_clip[clip]

    def encoded(self, kind: Hashable, texts: Iterable[str], encode: Callable[[str], T]) -> dict[str, T]:
        """Encode each text that is not kept; one at a time, since in a batch the last digits depend on the others."""
        patcher = self._clip().patcher
        if patcher.forced_hooks:
            return {text: encode(text) for text in dict.fromkeys(texts)}
        found = {}
        for text in dict.fromkeys(texts):
            key = (kind, patcher.patches_uuid, text)
            found[text] = self._kept[key] = self._kept[key] if key in self._kept else encode(text)
            self._kept.move_to_end(key)
        while len(self._kept) > TEXTS_KEPT:
            self._kept.popitem(last=False)
        return found
