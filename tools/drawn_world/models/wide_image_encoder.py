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

from drawn_world.models.image_encoder import (
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
    WIDTH,
    ZERO,
    positions,
)
from drawn_world.models.narrow import put, put_linear

LESS = 0.2  # how much less a patch at the wrong place counts than the class token
SHARP = 1000.0  # by how much a neighbour's logit is above the class token's, and that above the others'
TOWER, LAYER = "vision_model.", "vision_model.encoder.layers."
OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))


def wide_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ViT-H's image tower in transformers' names, which does what the narrow encoder does; float32."""
    wide = {name: torch.zeros(part.shape) for name, part in vit_h().items()}
    fixed = positions()
    fixed[1:, :SEEN] += narrow["patches.bias"]
    put(wide, f"{TOWER}embeddings.patch_embedding.weight", narrow["patches.weight"])
    put(wide, f"{TOWER}embeddings.position_embedding.weight", fixed)
    put(wide, "visual_projection.weight", narrow["visual_projection.weight"])
    put_norms(wide, TOWER, narrow, "", "pre_layrnorm", "post_layernorm")
    for number, dilation in enumerate((0, *DILATIONS)):
        put_convolution(wide, f"{LAYER}{number}.", narrow, f"steps.{number}.", dilation)
    put_gathering(wide, f"{LAYER}{LAYERS - 1}.", narrow, "gathering.")
    return wide


def height_after_norm() -> float:
    """About what the first norm, and all others, make of HEIGHT: next to the constant nothing else counts."""
    fixed = positions()[1]
    spread = (fixed.square().sum() / WIDTH - (fixed.sum() / WIDTH).square()).sqrt()
    return float(HEIGHT / spread)


def put_norms(wide: dict[str, Tensor], prefix: str, narrow: Mapping[str, Tensor], own: str, *norms: str) -> None:
    for name in (f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")):
        put(wide, f"{prefix}{name}", narrow[f"{own}{name}"])
        wide[f"{prefix}{name}"][ZERO] = narrow[f"{own}{name}"][ROWS]


def put_convolution(
    wide: dict[str, Tensor], prefix: str, narrow: Mapping[str, Tensor], own: str, dilation: int
) -> None:
    """A layer's norms and feed-forward part; its convolution as nine heads that look at a neighbour each."""
    put_norms(wide, prefix, narrow, own, "layer_norm1", "layer_norm2")
    put_linear(wide, prefix, narrow, own, "fc1", "fc2")
    if not dilation:
        return
    attention = f"{prefix}self_attn."
    for head, (down, across) in enumerate(OFFSETS):
        rows = slice(head * HEAD, (head + 1) * HEAD)
        look_at(wide, attention, head * HEAD, (down * dilation, across * dilation))
        wide[f"{attention}v_proj.weight"][rows, :SEEN] = narrow[f"{own}narrow.weight"]
        wide[f"{attention}v_proj.bias"][rows] = narrow[f"{own}narrow.bias"]
        kernel = narrow[f"{own}convolution.weight"][:, :, down + 1, across + 1]
        wide[f"{attention}out_proj.weight"][:SEEN, rows] = kernel
    wide[f"{attention}out_proj.bias"][:SEEN] = narrow[f"{own}convolution.bias"]


def look_at(wide: dict[str, Tensor], attention: str, first: int, offset: tuple[int, int]) -> None:
    """Queries and keys by which a head's patches look at the one that lies so far off, else at the class token.

    Every patch of another row or another column counts less than the class token, and that less than nothing, however
    large norms make the marks of each. The class token looks at itself.
    """
    queries, keys = (wide[f"{attention}{name}_proj.weight"] for name in "qk")
    strong = math.sqrt(2 * SHARP * math.sqrt(HEAD)) / height_after_norm()
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
    """Set the weights of some channels, so that what a norm makes of their zeros is taken off again."""
    for channel, weight in wanted.items():
        row[channel] = weight
    row[ZERO] = -sum(wanted.values())


def put_gathering(wide: dict[str, Tensor], prefix: str, narrow: Mapping[str, Tensor], own: str) -> None:
    """The last layer; a mark in every head's keys, where queries are constant, leaves only the anchors to look at."""
    put_norms(wide, prefix, narrow, own, "layer_norm1", "layer_norm2")
    put_linear(wide, prefix, narrow, own, "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    queries, keys = f"{prefix}self_attn.q_proj.bias", f"{prefix}self_attn.k_proj"
    strong = math.sqrt(SHARP * math.sqrt(HEAD)) / height_after_norm()
    no_anchors = {ANCHOR: strong, CLASS: -strong, **{ROWS + place: -strong for place in range(GRID)}}
    for head, query in enumerate(narrow[f"{own}query"]):
        last = head * HEAD + HEAD - 1
        wide[queries][last - HEAD + 1 : last], wide[queries][last] = query, strong * height_after_norm()
        wide[f"{keys}.weight"][last], wide[f"{keys}.bias"][last] = 0.0, 0.0
        mark(wide[f"{keys}.weight"][last], no_anchors)
