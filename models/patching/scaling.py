"""The weight inside the attention: on keys and values, instead of on what the attention gives.

Axes: C chunks, R rows of a batch (chunks x latents), T image tokens, D width.
"""

from __future__ import annotations

from torch import Tensor

from ..layers import K_MEAN_V_PENALTY, KV, PENALTY_WIDTH


def scaled(keys: Tensor, values: Tensor, weight: float | Tensor, scaling: str) -> tuple[Tensor, Tensor]:
    """keys and values [C or R, T, D], weight one number or [R, 1, 1] -> the weighted ones, [C, T, D] or [R, T, D].

    K+V: both by the weight, which also flattens or sharpens what a position looks at. With C penalty: by less in
    narrow layers. K+mean(V): of the values only their mean, so that what tells tokens apart keeps its strength.

    Source: cubiq/ComfyUI_IPAdapter_plus@f204d6fc, CrossAttentionPatch.py; the last is Lvmin Zhang's, from Fooocus.
    """
    if isinstance(weight, Tensor):
        keys, values = (x.repeat_interleave(len(weight) // len(x), dim=0) for x in (keys, values))
    if scaling != KV:
        weight = weight * (keys.shape[-1] / PENALTY_WIDTH)
    if scaling != K_MEAN_V_PENALTY:
        return keys * weight, values * weight
    mean = values.mean(dim=1, keepdim=True)
    return keys * weight, values - mean + mean * weight
