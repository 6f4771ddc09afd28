"""Turn instructions and prompts into the resampler's text features, by a CLIP-L: the graph's own, or open_clip's.

ComfyUI runs a whole node again when one of its texts changes; the others are not encoded again.
Axes: L tokens (77), D width (768).
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..bounded_cache import EncoderCache
from ..messages import check_letters
from .open_clip.towers import TEXT_LENGTH, OpenClipText, token_ids

T = TypeVar("T")
CLIP_L = "clip_l"
CACHED_TEXTS = 32  # a text's hidden states: 0.24 MB for the resampler, 3 MB as SD3's conditioning
LONGEST_TEXT = 4000  # letters; a token has about 20 at most


def check_clip(clip) -> None:
    """Raises ValueError where a checkpoint had no text encoder to give."""
    if clip is None:
        raise ValueError(
            "A CLIP was expected; none came, so the checkpoint holds no text encoder. "
            "Connect a Load CLIP or DualCLIPLoader node, with clip_l.safetensors in it."
        )


def check_clip_l(clip) -> None:
    """Raises ValueError unless it is a ComfyUI CLIP with a CLIP-L text encoder, or an OpenClipText."""
    check_clip(clip)
    if not isinstance(clip, OpenClipText) and getattr(clip.cond_stage_model, CLIP_L, None) is None:
        raise ValueError(
            "A CLIP with a CLIP-L text encoder was expected, since IPAdapter-Instruct reads instructions with it; "
            f"the connected one is {type(clip.cond_stage_model).__name__} without CLIP-L. Connect the CLIP of an "
            "SD1.5, SDXL base or SD3 model, or to the adapter loader's instruct_clip a Load CLIP node with "
            "clip_l.safetensors, or Load open_clip for Instruct."
        )


def encode_texts(clip, texts: Iterable[str]) -> dict[str, Tensor]:
    """Return each text's hidden states [1, L, D]: CLIP-L's last, after the final layer norm, float32.

    Tokens are start, text, end, padded with end and cut to 77, without prompt weights or embeddings. A tower with more
    positions, such as Long-CLIP's 248, gives its first 77; one with fewer gives all it has.
    Neither a clip-skip set on `clip` nor its own later encoding has anything to do with it.
    Raises ValueError for half a character, which a tokenizer refuses without words.

    Source: unity-research/IP-Adapter-Instruct@57efbe4, `last_hidden_state` of transformers' CLIPTextModel.
    """
    read = {}
    for text in texts:
        check_letters("A text", text)
        # As much as can be among the 77 tokens: tokenizers take ages for a megabyte.
        read[text] = text if len(text) <= LONGEST_TEXT else " ".join(text.split())[:LONGEST_TEXT]
    once = list(dict.fromkeys(read.values()))
    encoded = clip.encode_texts(once) if isinstance(clip, OpenClipText) else _encoded(clip, once)
    hidden_states = dict(zip(once, encoded.float().cpu().split(1), strict=True))
    return {text: hidden_states[beginning] for text, beginning in read.items()}


def _encoded(clip, texts: list[str]) -> Tensor:
    encoder = getattr(clip.cond_stage_model, CLIP_L)
    positions = encoder.transformer.text_model.embeddings.position_embedding.num_embeddings
    tokens = token_ids(getattr(clip.tokenizer, CLIP_L).tokenizer, texts, positions)
    clip.load_model()
    encoder.reset_clip_options()
    # "layer": None is the last layer with its norm; execution_device counts from ComfyUI 0.8.
    encoder.set_clip_options({"layer": None, "execution_device": clip.patcher.load_device})
    try:
        with torch.no_grad():
            return encoder.encode(tokens)[0][:, :TEXT_LENGTH]
    finally:
        encoder.reset_clip_options()


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
        patcher, texts = self.owner().patcher, dict.fromkeys(texts)
        if patcher.forced_hooks:
            return {text: encode(text) for text in texts}
        found = {text: self.get((kind, patcher.patches_uuid, text), partial(encode, text)) for text in texts}
        self.forget_oldest()
        return found
