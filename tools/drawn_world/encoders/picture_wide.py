"""ViT-H's image tower that computes what the world's image encoder does, for ComfyUI's loader.

Marks of rows and columns tell attention where to look. Each layer's norm makes them larger or smaller, with what is
seen in a patch, so that all is told by what would be wrong, and nothing by how large something right is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from comfyhost.encoders import vit_h
from torch import Tensor

from drawn_world.encoders.narrow import put
from drawn_world.encoders.picture import (
    ANCHOR,
    CLASS,
    COLUMNS,
    DILATIONS,
    GRID,
    HEAD,
    HEIGHT,
    LAYERS,
    ROWS,
    SEEN,
    SIZES,
    WIDTH,
    ZERO,
    positions,
)

LESS = 0.2  # a patch at the wrong place counts, than the class token
SHARP = 1000.0  # how much a neighbour's logit is above the class token's, and that above the others'
TOWER, LAYER = "vision_model.", "vision_model.encoder.layers."
OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))


def wide_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ViT-H's image tower in transformers' names, which does what the trained part does; float32."""
    weights = {name: torch.zeros(part.shape) for name, part in vit_h().items()}
    put(weights, f"{TOWER}embeddings.patch_embedding.weight", narrow["patches.weight"])
    fixed = positions()
    fixed[1:, :SEEN] += narrow["patches.bias"]
    put(weights, f"{TOWER}embeddings.position_embedding.weight", fixed)
    for norm in ("pre_layrnorm", "post_layernorm"):
        put_norm(weights, f"{TOWER}{norm}", narrow, norm)
    height = height_after_norm()
    for number, dilation in enumerate((0, *DILATIONS)):
        put_step(weights, f"{LAYER}{number}.", narrow, f"steps.{number}.", dilation, height)
    put_gathering(weights, narrow)
    put(weights, "visual_projection.weight", narrow["visual_projection.weight"])
    return weights


def height_after_norm() -> float:
    """About what the first norm, and all others, make of HEIGHT: next to the constant nothing else counts."""
    fixed = positions()[1]
    spread = (fixed.square().sum() / WIDTH - (fixed.sum() / WIDTH).square()).sqrt()
    return float(HEIGHT / spread)


def put_norm(weights: dict[str, Tensor], wide: str, narrow: Mapping[str, Tensor], name: str) -> None:
    for kind in ("weight", "bias"):
        put(weights, f"{wide}.{kind}", narrow[f"{name}.{kind}"])
        weights[f"{wide}.{kind}"][ZERO] = narrow[f"{name}.{kind}"][ROWS]


def put_step(
    weights: dict[str, Tensor], wide: str, narrow: Mapping[str, Tensor], name: str, dilation: int, height: float
):
    for norm in ("layer_norm1", "layer_norm2"):
        put_norm(weights, f"{wide}{norm}", narrow, f"{name}{norm}")
    for part in ("fc1", "fc2"):
        for kind in ("weight", "bias"):
            put(weights, f"{wide}mlp.{part}.{kind}", narrow[f"{name}{part}.{kind}"])
    if not dilation:
        return
    attention = f"{wide}self_attn."
    for head, (down, across) in enumerate(OFFSETS):
        rows = slice(head * HEAD, (head + 1) * HEAD)
        look_at(weights, attention, head * HEAD, (down * dilation, across * dilation), height)
        weights[f"{attention}v_proj.weight"][rows, :SEEN] = narrow[f"{name}narrow.weight"]
        weights[f"{attention}v_proj.bias"][rows] = narrow[f"{name}narrow.bias"]
        kernel = narrow[f"{name}convolution.weight"][:, :, down + 1, across + 1]
        weights[f"{attention}out_proj.weight"][:SEEN, rows] = kernel
    weights[f"{attention}out_proj.bias"][:SEEN] = narrow[f"{name}convolution.bias"]


def look_at(weights: dict[str, Tensor], attention: str, first: int, offset: tuple[int, int], height: float):
    """Queries and keys by which a head's patches look at the one that lies so far off, else at the class token.

    Every patch of another row or another column counts less than the class token, and that less than nothing, however
    large norms make the marks of each. The class token looks at itself.
    """
    queries, keys = (weights[f"{attention}{name}_proj.weight"] for name in "qk")
    strong = math.sqrt(2 * SHARP * math.sqrt(HEAD)) / height
    for channel, moved in ((ROWS, offset[0]), (COLUMNS, offset[1])):
        for place in range(GRID):
            row = first + channel - ROWS + place
            mark(keys[row], {channel + place: strong})
            others = (own for own in range(GRID) if own != place - moved)
            mark(queries[row], {channel + own: -strong for own in others})
    row = first + 2 * GRID
    mark(keys[row], {CLASS: strong})
    mark(queries[row], {CLASS: strong, **{ROWS + own: -LESS * strong for own in range(GRID)}})


def mark(row: Tensor, wanted: Mapping[int, float]) -> None:
    """Weights of some channels, so that what a norm makes of their zeros is taken off again."""
    for channel, weight in wanted.items():
        row[channel] = weight
    row[ZERO] = -sum(wanted.values())


def put_gathering(weights: dict[str, Tensor], narrow: Mapping[str, Tensor]) -> None:
    """The last layer; a mark in every head's keys, where queries are constant, leaves only the anchors to look at."""
    wide, name = f"{LAYER}{LAYERS - 1}.", "gathering."
    for norm in ("layer_norm1", "layer_norm2"):
        put_norm(weights, f"{wide}{norm}", narrow, f"{name}{norm}")
    for part, inside in (
        ("k_proj", "self_attn"),
        ("v_proj", "self_attn"),
        ("out_proj", "self_attn"),
        ("fc1", "mlp"),
        ("fc2", "mlp"),
    ):
        for kind in ("weight", "bias"):
            put(weights, f"{wide}{inside}.{part}.{kind}", narrow[f"{name}{part}.{kind}"])
    strong = math.sqrt(SHARP * math.sqrt(HEAD)) / height_after_norm()
    no_anchors = {ANCHOR: strong, CLASS: -strong, **{ROWS + own: -strong for own in range(GRID)}}
    weights[f"{wide}self_attn.k_proj.weight"][HEAD - 1 :: HEAD] = 0.0
    weights[f"{wide}self_attn.k_proj.bias"][HEAD - 1 :: HEAD] = 0.0
    for head in range(SIZES.heads):
        first = head * HEAD
        weights[f"{wide}self_attn.q_proj.bias"][first : first + HEAD - 1] = narrow[f"{name}query"][head]
        weights[f"{wide}self_attn.q_proj.bias"][first + HEAD - 1] = strong * height_after_norm()
        mark(weights[f"{wide}self_attn.k_proj.weight"][first + HEAD - 1], no_anchors)
