"""Random adapters in the names and shapes of the published files: IPAdapter-Instruct, and kinds without instruction.

Written from the published keys alone, so that the pack's loader is tested against something it did not make.
Source: unity-research/IP-Adapter-Instruct@57efbe4, tencent-ailab/IP-Adapter@cfcdf8c, and the names and shapes of files
at h94/IP-Adapter, h94/IP-Adapter-FaceID, ostris/ip-composition-adapter and Kwai-Kolors/Kolors-IP-Adapter-Plus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from comfyhost.weights import Blueprint

TOKENS = 16
INPUTS = {"proj_in": 1280, "proj_new_input": 768, "proj_prompt_input": 768}  # the image and the two texts
STACKS = {"layers": 4, "prompt_layers": 2, "new_input_layers": 2}  # and how much wider their feed-forwards are
HEAD = 64
FACE = 512
SD15, SDXL = 768, 2048  # the widths of tokens
VIT_H_POOLED = 1024


@dataclass(frozen=True)
class Shape:
    """A family's resampler: its width, its heads, the width of its tokens, the names of its last layers, its depth."""

    width: int
    heads: int
    token_width: int
    last_layers: tuple[str, str] = ("proj_out", "norm_out")
    blocks: int = 4


SHAPES = {
    "sd15": Shape(768, 12, 768),
    "sdxl": Shape(1280, 20, 2048),
    "sd3": Shape(1280, 20, 4096, ("proj_out_big", "norm_out_big")),
}
SMALL = {"width": 128, "heads": 2, "blocks": 2}
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
    """The learned queries, and what reads an image and two texts by them."""
    parts = Blueprint()
    parts.put("latents", 1, TOKENS, shape.width, spread=shape.width**-0.5)
    parts.add("", reader(shape, INPUTS, STACKS))
    return parts


def reader(shape: Shape, inputs: Mapping[str, int], stacks: Mapping[str, int]) -> Blueprint:
    """A resampler without its queries: the inputs' projections, the stacks of blocks, and the way out."""
    parts, inner = Blueprint(), HEAD * shape.heads
    for name, width in inputs.items():
        parts.linear(name, width, shape.width)
    for stack, growth in stacks.items():
        for block in range(shape.blocks):
            attention, feed_forward = f"{stack}.{block}.0.", f"{stack}.{block}.1."
            parts.norm(f"{attention}norm1", shape.width)
            parts.norm(f"{attention}norm2", shape.width)
            parts.linear(f"{attention}to_q", shape.width, inner, bias=False)
            parts.linear(f"{attention}to_kv", shape.width, 2 * inner, bias=False)
            parts.linear(f"{attention}to_out", inner, shape.width, bias=False)
            parts.norm(f"{feed_forward}0", shape.width)
            parts.linear(f"{feed_forward}1", shape.width, growth * shape.width, bias=False)
            parts.linear(f"{feed_forward}3", growth * shape.width, shape.width, bias=False)
    projection, norm = shape.last_layers
    parts.linear(projection, shape.width, shape.token_width)
    parts.norm(norm, shape.token_width)
    return parts


def cross_sites(widths: Sequence[int], token_width: int) -> Blueprint:
    parts = Blueprint()
    for site, width in enumerate(widths):
        for projection in ("to_k_ip", "to_v_ip"):
            parts.linear(f"{2 * site + 1}.{projection}", token_width, width, bias=False)
    return parts


def joint_sites(widths: Sequence[int]) -> Blueprint:
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


@dataclass(frozen=True)
class Plain:
    """The sizes of a plain adapter.

    image: what it reads of a picture. width, heads, blocks: of its resampler, whose feed-forwards are `growth` times
    as wide. rank: of its LoRA, 0 for none.
    """

    kind: str
    token_width: int = SD15
    tokens: int = 4
    image: int = VIT_H_POOLED
    width: int = 768
    heads: int = 12
    rank: int = 0
    blocks: int = 4
    growth: int = 4


def plain_adapter(sizes: Plain, sites: Sequence[int]) -> Blueprint:
    """An adapter for a UNet whose cross-attentions are `sites` wide, in diffusers' order: down, up, middle.

    The names carry the prefixes `image_proj.` and `ip_adapter.`.
    """
    parts = Blueprint()
    parts.add("image_proj.", image_projection(sizes))
    parts.add("ip_adapter.", cross_sites(sites, sizes.token_width))
    if sizes.rank:
        parts.add("ip_adapter.", faceid_lora(sites, sizes))
    return parts


def image_projection(sizes: Plain) -> Blueprint:
    parts, shape = Blueprint(), Shape(sizes.width, sizes.heads, sizes.token_width, blocks=sizes.blocks)
    stack = reader(shape, {"proj_in": sizes.image}, {"layers": sizes.growth})
    match sizes.kind:
        case "base":
            parts.linear("proj", sizes.image, sizes.tokens * sizes.token_width)
            parts.norm("norm", sizes.token_width)
        case "full-face":
            parts.linear("proj.0", sizes.image, sizes.image)
            parts.linear("proj.2", sizes.image, sizes.token_width)
            parts.norm("proj.3", sizes.token_width)
        case "faceid" | "faceid-plus":
            parts.linear("proj.0", FACE, 2 * FACE)
            parts.linear("proj.2", 2 * FACE, sizes.tokens * sizes.token_width)
            parts.norm("norm", sizes.token_width)
        case "plus" | "faceid-resampler":  # the latter reads a face in place of a picture's states
            parts.put("latents", 1, sizes.tokens, sizes.width, spread=sizes.width**-0.5)
            parts.add("", stack)
    if sizes.kind == "faceid-plus":
        parts.add("perceiver_resampler.", stack)
    return parts


def faceid_lora(sites: Sequence[int], sizes: Plain) -> Blueprint:
    """The LoRA of each site's self-attention 2 i and cross-attention 2 i + 1; only the latter's keys see the text."""
    parts = Blueprint()
    for site, width in enumerate(sites):
        for number in (2 * site, 2 * site + 1):
            for layer in ("to_q", "to_k", "to_v", "to_out"):
                of_text = number % 2 and layer in ("to_k", "to_v")
                wide_in = sizes.token_width if of_text else width
                parts.linear(f"{number}.{layer}_lora.down", wide_in, sizes.rank, bias=False)
                parts.linear(f"{number}.{layer}_lora.up", sizes.rank, width, bias=False, gain=0.3)
    return parts
