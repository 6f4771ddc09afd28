"""The host's attention, with whatever a user has put in its place."""

from __future__ import annotations

import inspect

from comfy.ldm.modules import attention
from torch import Tensor

OVERRIDE = "optimized_attention_override"


def takes_options() -> bool:
    """Whether attention is told the call's transformer_options, and so can be overridden by them; from 0.3.64 on."""
    parameters = inspect.signature(attention.optimized_attention).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


TAKES_OPTIONS = takes_options()


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, options: dict, **settings) -> Tensor:
    """q [R, N, D], k and v [R, T, D] -> [R, N, D]. settings: of the host's function, such as its precision."""
    if TAKES_OPTIONS:
        settings["transformer_options"] = options
    return attention.optimized_attention(q, k, v, heads=heads, **settings)
