"""Random IPAdapter-Instruct adapters in the names and shapes of the published files.

Written from the published keys alone, so that the pack's loader is tested against something it did not make.
Source: unity-research/IP-Adapter-Instruct@57efbe4, and the published files' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from comfyhost.weights import Blueprint

IMAGE_WIDTH = 1280
TEXT_WIDTH = 768
TOKENS = 16
BLOCKS = 4
HEAD = 64


@dataclass(frozen=True)
class Shape:
    """A family's resampler: its width, its heads, the width of its tokens, the names of its last layers, its depth."""

    width: int
    heads: int
    token_width: int
    last_layers: tuple[str, str] = ("proj_out", "norm_out")
    blocks: int = BLOCKS


SHAPES = {
    "sd15": Shape(768, 12, 768),
    "sdxl": Shape(1280, 20, 2048),
    "sd3": Shape(1280, 20, 4096, ("proj_out_big", "norm_out_big")),
}
JOINT_PROJECTIONS = (
    *("to_k_ip", "to_v_ip", "add_k_proj_ip", "add_v_proj_ip"),
    *("proj_ip", "proj_encoder_hidden_states_ip", "proj_encoder_passthrough_ip"),
)


def instruct_adapter(family: str, site_widths: Sequence[int], **smaller: int) -> Blueprint:
    """An adapter with the family's resampler, or a smaller one, for a denoiser whose sites are this wide.

    `site_widths`, UNets: one width a cross attention, in diffusers' order down, up, middle (index 2i + 1 in
    the file). SD3: one a joint block that receives tokens (index 2i). The names carry the dotted prefixes
    `image_proj.` and `ip_adapter.`.
    """
    if family not in SHAPES:
        raise ValueError(f"There is no adapter family {family!r}. Choose one of: {', '.join(SHAPES)}.")
    parts = Blueprint()
    parts.add("image_proj.", resampler(replace(SHAPES[family], **smaller)))
    sites = joint_sites(site_widths) if family == "sd3" else cross_sites(site_widths, SHAPES[family].token_width)
    parts.add("ip_adapter.", sites)
    return parts


def resampler(shape: Shape) -> Blueprint:
    """The learned queries, the three inputs' projections, the three stacks, and the way out."""
    parts = Blueprint()
    parts.put("latents", 1, TOKENS, shape.width, spread=shape.width**-0.5)
    parts.linear("proj_in", IMAGE_WIDTH, shape.width)
    parts.linear("proj_new_input", TEXT_WIDTH, shape.width)
    parts.linear("proj_prompt_input", TEXT_WIDTH, shape.width)
    for stack, growth in (("layers", 4), ("prompt_layers", 2), ("new_input_layers", 2)):
        for block in range(shape.blocks):
            attention(parts, f"{stack}.{block}.0.", shape)
            feed_forward(parts, f"{stack}.{block}.1.", shape.width, growth)
    projection, norm = shape.last_layers
    parts.linear(projection, shape.width, shape.token_width)
    parts.norm(norm, shape.token_width)
    return parts


def attention(parts: Blueprint, name: str, shape: Shape) -> None:
    inner = HEAD * shape.heads
    parts.norm(f"{name}norm1", shape.width)
    parts.norm(f"{name}norm2", shape.width)
    parts.linear(f"{name}to_q", shape.width, inner, bias=False)
    parts.linear(f"{name}to_kv", shape.width, 2 * inner, bias=False)
    parts.linear(f"{name}to_out", inner, shape.width, bias=False)


def feed_forward(parts: Blueprint, name: str, width: int, growth: int) -> None:
    parts.norm(f"{name}0", width)
    parts.linear(f"{name}1", width, growth * width, bias=False)
    parts.linear(f"{name}3", growth * width, width, bias=False)


def cross_sites(widths: Sequence[int], token_width: int) -> Blueprint:
    """The keys and values for each cross attention of a UNet."""
    parts = Blueprint()
    for site, width in enumerate(widths):
        for projection in ("to_k_ip", "to_v_ip"):
            parts.linear(f"{2 * site + 1}.{projection}", token_width, width, bias=False)
    return parts


def joint_sites(widths: Sequence[int]) -> Blueprint:
    """The seven projections of each joint block that receives tokens."""
    parts = Blueprint()
    for site, width in enumerate(widths):
        for projection in JOINT_PROJECTIONS:
            parts.linear(f"{2 * site}.{projection}", width, width, bias=False)
    return parts


def nested(tensors: dict) -> dict[str, dict]:
    """A flat adapter as the published pickle holds it: {"image_proj": {...}, "ip_adapter": {...}}."""
    parts: dict[str, dict] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = tensor
    return parts
