"""The texts that a CLIP has encoded last, so that when one changes the others are not encoded again.

ComfyUI runs a whole node again when one of its texts changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TypeVar

from torch import Tensor

from ..bounded_cache import EncoderCache
from ..messages import check_letters
from .text_encoder import encode_texts

T = TypeVar("T")
CACHED_TEXTS = 32  # a text's hidden states: 0.24 MB for the resampler, 3 MB as SD3's conditioning


def text_hidden_states(clip, texts: Iterable[str]) -> dict[str, Tensor]:
    """Return each text's hidden states [1, L, D], as `encode_texts` gives them."""
    return TextCache.of(clip).encoded("hidden states", texts, lambda text: encode_texts(clip, [text])[text])


def conditionings(clip, texts: Iterable[str]) -> list[list]:
    """Encode each text just as CLIP Text Encode does. Raises ValueError for half a character."""

    def encode(text: str) -> list:
        check_letters("A text", text)
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    texts = list(texts)
    found = TextCache.of(clip).encoded(("conditioning", clip.layer_idx), texts, encode)
    return [[[hidden_states, dict(more)] for hidden_states, more in found[text]] for text in texts]


class TextCache(EncoderCache):
    """A cache of the texts that one CLIP has encoded last.

    A CLIP that a node has changed is another one, or has other patches; one with hooks is encoded anew each time.
    """

    most = CACHED_TEXTS

    def encoded(self, kind: Hashable, texts: Iterable[str], encode: Callable[[str], T]) -> dict[str, T]:
        """Encode each text that is not cached; one at a time, since in a batch the last digits depend on the others."""
        patcher = self.owner().patcher
        if patcher.forced_hooks:
            return {text: encode(text) for text in dict.fromkeys(texts)}
        once = {text: partial(encode, text) for text in texts}
        found = {text: self.get((kind, patcher.patches_uuid, text), make) for text, make in once.items()}
        self.forget_oldest()
        return found
