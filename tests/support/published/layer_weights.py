"""The published rules of layer weights, written out from their source, for comparison."""

from __future__ import annotations

from torch import Tensor

from support.sampling.oracle_model import plain_attention

COUNTS = {"sd15": 16, "sdxl": 11, "sd3": 2}  # groups of layers, SD3: the blocks of its small model with an adapter
V_ONLY = "V only"

# A factor for each layer from 0 on. Source: cubiq/ComfyUI_IPAdapter_plus@b103c674, IPAdapterPlus.py.
PUBLISHED = {
    "sd15": {
        "style transfer": (1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "composition": (0, 0, 0, 0, 0.25, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        "strong style transfer": (1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        "style and composition": (1, 1, 1, 1, 0.25, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "strong style and composition": (1,) * 16,
        "style transfer precise": (1, 1, 1, 1, 0.25, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1),
        "composition precise": (1, 1, 1, 1, 0.25, 1, 0.1, 0.1, 0.1, 1, 1, 1, 1, 1, 1, 1),
    },
    "sdxl": {
        "style transfer": (0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
        "composition": (0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
        "strong style transfer": (1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1),
        "style and composition": (0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0),
        "strong style and composition": (1,) * 11,
        "style transfer precise": (0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0),
        "composition precise": (0.1, 0.1, 0.1, 1, 0.1, 0.1, 1, 0.1, 0.1, 0.1, 0.1),
    },
}
# Of a layer's number t among n, and its part of the model. Source: the same pack, CrossAttentionPatch.py.
BY_PLACE = {
    "linear": lambda t, n, part: 1,
    "ease in": lambda t, n, part: 0.05 + 0.95 * (1 - t / n),
    "ease out": lambda t, n, part: 0.05 + 0.95 * (t / n),
    "ease in-out": lambda t, n, part: 0.05 + 0.95 * (1 - abs(t - n / 2) / (n / 2)),
    "reverse in-out": lambda t, n, part: 0.05 + 0.95 * (abs(t - n / 2) / (n / 2)),
    "weak input": lambda t, n, part: 0.2 if part == "input" else 1,
    "weak output": lambda t, n, part: 0.2 if part == "output" else 1,
    "weak middle": lambda t, n, part: 0.2 if part == "middle" else 1,
    "strong middle": lambda t, n, part: 1 if part == "middle" else 0.2,
}
PRECISE = ("style transfer precise", "composition precise")


def published_factor(family: str, weight_type: str, number: int, part: str) -> float:
    if weight_type in BY_PLACE:
        return BY_PLACE[weight_type](number, COUNTS[family], part)
    return PUBLISHED[family][weight_type][number]


def on_negative(family: str, weight_type: str, number: int) -> bool:
    """Whether the layer's positive gets nothing, and its negative what the positive would. Source: as above."""
    composition = number in {"sd15": (4, 5), "sdxl": (3,)}.get(family, ())
    return weight_type in PRECISE and composition == (weight_type == "style transfer precise")


def scaled_attention(q: Tensor, keys: Tensor, values: Tensor, weight, heads: int, scaling: str) -> Tensor:
    """Source: cubiq/ComfyUI_IPAdapter_plus@f204d6fc, CrossAttentionPatch.py."""
    if scaling == V_ONLY:
        return plain_attention(q, keys, values, heads) * weight
    if "C penalty" in scaling:
        weight = weight * keys.shape[2] / 1280
    if "mean(V)" not in scaling:
        return plain_attention(q, keys * weight, values * weight, heads)
    mean = values.mean(dim=1, keepdim=True)
    return plain_attention(q, keys * weight, (values - mean) + mean * weight, heads)
