"""Texts' states for training: the padding, which is many times the same, taken once.

ComfyUI gives SD3 77 states a text. In this world those past SPELLED are equal (`encoders.mark_the_end`), stay equal in
every block of the denoiser, and can be one token to which attention counts COPIES times: the same prediction for half
the work, with texts of up to SPELLED tokens.

B texts, L = SPELLED + 1 tokens, D = 768.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from small_world.encoders import END, HEADS, LENGTH, SPELLED, TEXT_LAYERS, WIDTH
from small_world.in_process import comfy

SHORT = SPELLED + 1
COPIES = LENGTH - SPELLED


@dataclass(frozen=True)
class Texts:
    """What SD3 is given of texts: states [B, L, 768], and the pooled state [B, 768]."""

    states: Tensor
    pooled: Tensor


class ShortTexts:
    """Encodes texts as ComfyUI does for SD3 with CLIP-L alone, short and without the layers that do nothing."""

    def __init__(self, file: Path) -> None:
        self.tokenizer = comfy.sd1_clip.SDTokenizer()
        weights = load_file(file)
        layer = f"{TEXT_LAYERS}0.self_attn."
        self.projections = {name: weights[f"{layer}{name}_proj.weight"].float() for name in ("q", "k", "v", "out")}
        self.tokens = weights["text_model.embeddings.token_embedding.weight"].float()
        self.positions = weights["text_model.embeddings.position_embedding.weight"][:SHORT].float()

    def token_ids(self, text: str) -> list[int]:
        """The first L tokens of a text. Raises ValueError for one that is longer."""
        batches = self.tokenizer.tokenize_with_weights(text)
        ids = [int(token) for token, _ in batches[0]]
        if len(batches) > 1 or ids[SPELLED] != END:
            raise ValueError(f"A text should have at most {SPELLED - 1} tokens, but this has more: {text!r}.")
        return ids[:SHORT]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Texts:
        ids = torch.tensor([self.token_ids(text) for text in texts])
        states = attended(self.tokens[ids] + self.positions, self.projections)
        ends = (ids == END).int().argmax(-1)
        return Texts(states, F.layer_norm(states[torch.arange(len(ids)), ends], (WIDTH,)))


def attended(x: Tensor, projections: Mapping[str, Tensor]) -> Tensor:
    """x [B, L, D] after the text encoder's first attention."""
    normed = F.layer_norm(x, (WIDTH,))
    q, k, v = ((normed @ projections[name].T).unflatten(-1, (HEADS, -1)).transpose(1, 2) for name in "qkv")
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return x + mixed.transpose(1, 2).flatten(2) @ projections["out"].T


def counting_copies(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
    """SD3's joint attention, text first, in which the text's last token counts COPIES times.

    For transformer_options' `optimized_attention_override`. q, k, v [B, L + N, D] -> [B, L + N, D].
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    counts = torch.zeros(k.shape[2], dtype=q.dtype)
    counts[SPELLED] = math.log(COPIES)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=counts.expand(q.shape[2], -1)).transpose(1, 2).flatten(2)


TRANSFORMER_OPTIONS = {"optimized_attention_override": counting_copies}
