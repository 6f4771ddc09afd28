"""The strength with which an adapter acts in each of a model's attention layers.

Layers are numbered by groups in the order in which the model runs them: SD1.5 has 16 (0 to 5 on the way down, 6 in
the middle, 7 to 15 on the way up), SDXL has 11 (0 to 3, 4, 5 to 10) with several layers each, SD3 has 12.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..families import SD15, SDXL, Family
from ..messages import check_choice, check_length, shown, some

WEAK = 0.2
LINEAR = "linear"
EASES = ("ease in", "ease out", "ease in-out", "reverse in-out")
INPUT, MIDDLE, OUTPUT = "input", "middle", "output"
PARTS = {  # where it is WEAK
    "weak input": {INPUT},
    "weak output": {OUTPUT},
    "weak middle": {MIDDLE},
    "strong middle": {INPUT, OUTPUT},
}

V_ONLY, KV, KV_PENALTY, K_MEAN_V_PENALTY = "V only", "K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty"
SCALINGS = (V_ONLY, KV, KV_PENALTY, K_MEAN_V_PENALTY)
PENALTY_WIDTH = 1280
NAMES_SHOWN = 5


# Source: cubiq/ComfyUI_IPAdapter_plus@b103c674, IPAdapterPlus.py, `ipadapter_execute`. Its tables know SD1.5 and SDXL.
def _table(groups: int, style: dict[int, float], composition: dict[int, float]) -> dict[str, dict[int, float]]:
    """Return the factors of a family's groups for each type that knows which of them carry style and composition."""
    both = {**style, **composition}
    return {
        "style transfer": style,
        "composition": composition,
        "strong style transfer": {group: 1.0 for group in range(groups) if group not in composition},
        "style and composition": both,
        "strong style and composition": dict.fromkeys(range(groups), 1.0),
        "style transfer precise": both,
        "composition precise": {**dict.fromkeys(range(groups), 0.1), **both},
    }


TABLES = {
    SD15.name: _table(16, style=dict.fromkeys((0, 1, 2, 3, *range(9, 16)), 1.0), composition={4: 0.25, 5: 1.0}),
    SDXL.name: _table(11, style={6: 1.0}, composition={3: 1.0}),
}
TABLE_NAMES = tuple(TABLES[SD15.name])
WEIGHT_TYPES = (LINEAR, *EASES, *PARTS, *TABLE_NAMES)


@dataclass(frozen=True)
class LayerWeights:
    """A choice of WEIGHT_TYPES, or a list of one's own, and where the weight acts, one of SCALINGS.

    own: "group: factor" or "group.layer: factor" pairs; layers that are not named do nothing. "" for none.
    scaling: V only weighs what the attention gives; the others weigh keys and values before it.
    """

    weight_type: str = LINEAR
    own: str = ""
    scaling: str = V_ONLY


@dataclass(frozen=True)
class Layer:
    """One attention: the group it belongs to, its number there, and the part of the model, input, middle or output."""

    group: int
    number: int
    part: str


@dataclass(frozen=True)
class LayerFactor:
    """A factor on the weight at one attention. on_negative: it acts on the negative, instead of on the positive."""

    factor: float = 1.0
    on_negative: bool = False


def layer_factors(
    weights: LayerWeights, family: Family, layers: Sequence[Layer], scalings: Sequence[str] = SCALINGS
) -> tuple[LayerFactor, ...]:
    """Return one factor for each of a model's attentions. Raises ValueError for what the family does not have.

    scalings: those that make sense in its attention.

    Source: the tables' above; for SD3 the rules that need no table, over its depth, which is this pack's own.
    """
    check_choice("weight_type", weights.weight_type, WEIGHT_TYPES)
    check_choice("scaling", weights.scaling, SCALINGS)
    if weights.scaling not in scalings:
        raise ValueError(
            f"scaling {weights.scaling} was chosen for {family.title}, whose attention mixes the picture with what the "
            f"model itself sees, so that keys alone cannot weigh it. Choose {' or '.join(scalings)}."
        )
    kind, table = weights.weight_type, TABLES.get(family.name, {})
    if weights.own.strip():
        factors = parse_layers(weights.own, layers)
    elif kind in table:
        factors = {layer: table[kind].get(layer.group, 0.0) for layer in layers}
    elif kind in TABLE_NAMES:
        raise ValueError(
            f"weight_type {kind} is known for {' and '.join(f.title for f in (SD15, SDXL))}, where it was found which "
            f"layers carry style and composition; the adapter is for {family.title}. Choose another, or name layers in "
            "layer_weights."
        )
    else:
        count = max(layer.group for layer in layers) + 1
        factors = {layer: _by_place(kind, layer, count) for layer in layers}
    # In a precise type some groups push the negative instead: it gets the image, and the positive gets none of it.
    # Source: cubiq/ComfyUI_IPAdapter_plus@f204d6fc, CrossAttentionPatch.py, `ipadapter_attention`.
    composition = table.get("composition", {})
    pushes_composition = {"style transfer precise": True, "composition precise": False}.get(kind)
    return tuple(LayerFactor(factors[one], (one.group in composition) is pushes_composition) for one in layers)


def parse_layers(text: str, layers: Sequence[Layer]) -> dict[Layer, float]:
    """Read each layer's factor from a text such as "3: 1, 6: 0.5, 6.2: 0", where a layer overrules its group.

    Raises ValueError for other texts, and for layers that the model does not have.
    """
    check_length("layer_weights", text)
    entries = [entry.partition(":") for entry in re.split(r"[,;\n]+", text) if entry.strip()]
    try:
        pairs = [(name.strip(), float(factor)) for name, _, factor in entries]
    except ValueError:
        pairs = [("", math.nan)]
    if not all(math.isfinite(factor) for _, factor in pairs):
        raise ValueError(
            f"layer_weights was expected to be layers with factors, such as 3: 1, 6: 0.5; it is {shown(text)}. "
            "Correct it, or clear it."
        )
    named = dict(pairs)
    known = {str(layer.group) for layer in layers} | {f"{layer.group}.{layer.number}" for layer in layers}
    unknown = [name for name in named if name not in known]
    if unknown:
        last, names = max(layer.group for layer in layers), some([shown(name) for name in unknown], NAMES_SHOWN)
        raise ValueError(
            f"layer_weights was expected to name layers from 0 to {last}, such as 3: 1, 6: 0.5 or, inside one, "
            f"6.1: 0.5; {names} is none of this model's. Correct layer_weights, or clear it."
        )
    return {layer: named.get(f"{layer.group}.{layer.number}", named.get(str(layer.group), 0.0)) for layer in layers}


def _by_place(weight_type: str, layer: Layer, count: int) -> float:
    depth, middle = layer.group / count, abs(layer.group - count / 2) / (count / 2)
    slopes = dict(zip(EASES, (1 - depth, depth, 1 - middle, middle), strict=True))
    if weight_type in slopes:
        return 0.05 + 0.95 * slopes[weight_type]
    return WEAK if layer.part in PARTS.get(weight_type, ()) else 1.0
