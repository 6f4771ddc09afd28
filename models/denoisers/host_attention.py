"""The host's attention, with whatever a user has put in its place."""

from __future__ import annotations

from comfy.ldm.modules import attention
from torch import Tensor

OVERRIDE = "optimized_attention_override"


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, options: dict, **settings) -> Tensor:
    """Compute attention: q [R, N, D], k and v [R, T, D] -> [R, N, D].

    settings: of the host's function, such as its precision.
    """
    return attention.optimized_attention(q, k, v, heads=heads, transformer_options=options, **settings)
