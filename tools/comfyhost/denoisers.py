"""The denoisers of the stand-in checkpoints: latent diffusion's UNet and SD3's MMDiT, in ComfyUI's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from comfyhost.weights import Blueprint

CHANNELS = 320
HEAD = 64


@dataclass(frozen=True)
class UNet:
    """A UNet's layout: one entry of `levels` and `res_blocks` a resolution, widths in multiples of 320.

    `depths_in` and `depths_out`: transformer blocks behind each res block, in the order of input_blocks and
    output_blocks. `depth_middle` None: the middle is one res block.
    """

    levels: Sequence[int]
    res_blocks: Sequence[int]
    depths_in: Sequence[int]
    depth_middle: int | None
    depths_out: Sequence[int]
    context: int = 768
    linear_projections: bool = False
    label: int | None = None


@dataclass(frozen=True)
class MMDiT:
    """An SD3 transformer: width, blocks and heads all follow from `depth`."""

    depth: int
    norm_queries: bool = False
    dual_blocks: Sequence[int] = ()


def cross_attention_widths(layout: UNet) -> list[int]:
    """The widths of a UNet's cross attentions in diffusers' order: down, up, middle."""
    down = [
        level * CHANNELS for level, count in zip(layout.levels, layout.res_blocks, strict=True) for _ in range(count)
    ]
    up = [
        level * CHANNELS
        for level, count in zip(reversed(layout.levels), reversed(layout.res_blocks), strict=True)
        for _ in range(count + 1)
    ]
    depths = [*layout.depths_in, *layout.depths_out, layout.depth_middle or 0]
    widths = zip([*down, *up, down[-1]], depths, strict=True)
    return [width for width, depth in widths for _ in range(depth)]


def joint_block_widths(layout: MMDiT) -> list[int]:
    """The widths of an MMDiT's blocks that receive image tokens: every second one, from the first."""
    return [HEAD * layout.depth for block in range(layout.depth) if block % 2 == 0]


def unet(layout: UNet) -> Blueprint:
    """A latent diffusion UNet in the original (not diffusers') names."""
    parts = Blueprint()
    time_width = 4 * CHANNELS
    embedding(parts, "time_embed.", CHANNELS, time_width)
    if layout.label:
        embedding(parts, "label_emb.0.", layout.label, time_width)
    skips = input_blocks(parts, layout)
    width = layout.levels[-1] * CHANNELS
    res_block(parts, "middle_block.0.", width, width)
    if layout.depth_middle is not None:
        transformer(parts, "middle_block.1.", width, layout.depth_middle, layout)
        res_block(parts, "middle_block.2.", width, width)
    output_blocks(parts, layout, width, skips)
    parts.norm("out.0", CHANNELS)
    parts.conv("out.2", CHANNELS, 4, 3)
    return parts


def embedding(parts: Blueprint, name: str, wide_in: int, width: int) -> None:
    parts.linear(f"{name}0", wide_in, width)
    parts.linear(f"{name}2", width, width)


def input_blocks(parts: Blueprint, layout: UNet) -> list[int]:
    """Add the way down, and return the widths that the way up receives, first block first."""
    parts.conv("input_blocks.0.0", 4, CHANNELS, 3)
    depths, width, skips = iter(layout.depths_in), CHANNELS, [CHANNELS]
    for level, count in zip(layout.levels, layout.res_blocks, strict=True):
        if len(skips) > 1:
            parts.conv(f"input_blocks.{len(skips)}.0.op", width, width, 3)
            skips.append(width)
        for _ in range(count):
            name = f"input_blocks.{len(skips)}."
            res_block(parts, f"{name}0.", width, level * CHANNELS)
            width = level * CHANNELS
            transformer(parts, f"{name}1.", width, next(depths), layout)
            skips.append(width)
    return skips


def output_blocks(parts: Blueprint, layout: UNet, width: int, skips: list[int]) -> None:
    """Add the way up."""
    depths, index = iter(layout.depths_out), 0
    for level in reversed(range(len(layout.levels))):
        for block in range(layout.res_blocks[level] + 1):
            name, wide_out, depth = f"output_blocks.{index}.", layout.levels[level] * CHANNELS, next(depths)
            res_block(parts, f"{name}0.", width + skips.pop(), wide_out)
            width = wide_out
            transformer(parts, f"{name}1.", width, depth, layout)
            if level and block == layout.res_blocks[level]:
                parts.conv(f"{name}{2 if depth else 1}.conv", width, width, 3)
            index += 1


def res_block(parts: Blueprint, name: str, wide_in: int, wide_out: int) -> None:
    parts.norm(f"{name}in_layers.0", wide_in)
    parts.conv(f"{name}in_layers.2", wide_in, wide_out, 3)
    parts.linear(f"{name}emb_layers.1", 4 * CHANNELS, wide_out)
    parts.norm(f"{name}out_layers.0", wide_out)
    parts.conv(f"{name}out_layers.3", wide_out, wide_out, 3)
    if wide_in != wide_out:
        parts.conv(f"{name}skip_connection", wide_in, wide_out, 1)


def transformer(parts: Blueprint, name: str, width: int, depth: int, layout: UNet) -> None:
    """Add a spatial transformer of `depth` blocks, or nothing for none."""
    if not depth:
        return
    parts.norm(f"{name}norm", width)
    for projection in ("proj_in", "proj_out"):
        if layout.linear_projections:
            parts.linear(f"{name}{projection}", width, width)
        else:
            parts.conv(f"{name}{projection}", width, width, 1)
    for block in range(depth):
        transformer_block(parts, f"{name}transformer_blocks.{block}.", width, layout.context)


def transformer_block(parts: Blueprint, name: str, width: int, context: int) -> None:
    attention(parts, f"{name}attn1.", width, width)
    attention(parts, f"{name}attn2.", width, context)
    parts.linear(f"{name}ff.net.0.proj", width, 8 * width)
    parts.linear(f"{name}ff.net.2", 4 * width, width)
    for norm in ("norm1", "norm2", "norm3"):
        parts.norm(f"{name}{norm}", width)


def attention(parts: Blueprint, name: str, width: int, context: int) -> None:
    parts.linear(f"{name}to_q", width, width, bias=False)
    parts.linear(f"{name}to_k", context, width, bias=False)
    parts.linear(f"{name}to_v", context, width, bias=False)
    parts.linear(f"{name}to_out.0", width, width)


def mmdit(layout: MMDiT, latent: int = 16, patch: int = 2, context: int = 4096, pooled: int = 2048) -> Blueprint:
    """An SD3 transformer."""
    parts = Blueprint()
    width = HEAD * layout.depth
    parts.conv("x_embedder.proj", latent, width, patch)
    embedding(parts, "t_embedder.mlp.", 256, width)
    embedding(parts, "y_embedder.mlp.", pooled, width)
    parts.linear("context_embedder", context, width)
    parts.put("pos_embed", 1, 32 * 32, width, spread=0.1)
    for block in range(layout.depth):
        joint_block(parts, block, width, layout)
    parts.linear("final_layer.adaLN_modulation.1", width, 2 * width)
    parts.linear("final_layer.linear", width, patch * patch * latent)
    return parts


def joint_block(parts: Blueprint, block: int, width: int, layout: MMDiT) -> None:
    """Add both streams of a block; in the last one the text stream only hands out keys and values."""
    name = f"joint_blocks.{block}."
    attentions = ["attn", "attn2"] if block in layout.dual_blocks else ["attn"]
    stream(parts, f"{name}x_block.", width, attentions, layout, ends=False)
    stream(parts, f"{name}context_block.", width, ["attn"], layout, ends=block == layout.depth - 1)


def stream(parts: Blueprint, name: str, width: int, attentions: Sequence[str], layout: MMDiT, ends: bool) -> None:
    for attention_name in attentions:
        parts.linear(f"{name}{attention_name}.qkv", width, 3 * width)
        if layout.norm_queries:
            for norm in ("ln_q", "ln_k"):
                parts.put(f"{name}{attention_name}.{norm}.weight", HEAD, spread=0.05, mean=1.0)
        if not ends:
            parts.linear(f"{name}{attention_name}.proj", width, width)
    modulations = 2 if ends else 3 * (len(attentions) + 1)
    parts.linear(f"{name}adaLN_modulation.1", width, modulations * width)
    if not ends:
        parts.linear(f"{name}mlp.fc1", width, 4 * width)
        parts.linear(f"{name}mlp.fc2", 4 * width, width)
