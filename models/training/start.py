"""The weights that teaching begins with: drawn, from an IP-Adapter Plus, or from an IPAdapter-Instruct.

Axes: D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoint import ATTENTION, IMAGE_PROJECTION, AdapterCheckpoint, build, recognise
from ..cross_attention import SiteProjections
from ..families import SD15, Family
from ..joint_attention import StreamProjections, TokenProjections
from ..kinds import INSTRUCT, PLUS
from ..patching.own_model import OwnModel, class_name
from ..patching.sites import Site, check_fit
from ..resampler import HEAD_WIDTH, Resampler, ResamplerSizes
from .learner import published

NEW_LAYERS = ("prompt_layers.", "new_input_layers.")
LAST_LINEARS = (".0.to_out.weight", ".1.3.weight")
SPREAD = 1e-4  # of the new layers' last linear
IMAGE_WIDTH, TEXT_WIDTH = 1280, 768  # ViT-H's, CLIP-L's
PUBLISHED_WIDTHS = {SD15.name: 768}  # of the resampler; the other families' is the next line's
OTHER_WIDTH = 1280


@dataclass(frozen=True)
class Shape:
    """A drawn adapter's size; 0 is what the published adapters have. width: of the resampler. ff: times the width."""

    tokens: int = 16
    width: int = 0
    heads: int = 0
    blocks: int = 4
    image_ff: int = 4
    text_ff: int = 2


def begun(
    start: AdapterCheckpoint | Shape, family: Family, sites: Sequence[Site], base: OwnModel, seed: int
) -> AdapterCheckpoint:
    """The adapter to begin with: a drawn one of a shape, or what `from_file` makes of a given one."""
    if isinstance(start, Shape):
        return recognise(from_scratch(family, sites, base, start, seed))
    return from_file(start, family, sites, seed)


def from_scratch(family: Family, sites: Sequence[Site], base: OwnModel, shape: Shape, seed: int) -> Mapping:
    """Tensors of a new adapter under published names.

    For a UNet keys and values begin as the model's own for text, without LoRAs. For an MMDiT what the image tokens add
    begins at zero.
    The layers that read texts begin as in an adapter made of a Plus adapter.
    Source: arXiv 2308.06721 section 3.2 for the UNet, 2408.03209 section 4 for texts; the rest is this pack's.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = _sizes(family, shape, sites[0].context_width)
    resampler = Resampler(sizes)
    _draw(resampler, generator)
    _quieten_texts(resampler, generator)
    parts = {f"image_projection.{name}": weight for name, weight in resampler.state_dict().items()}
    widths = {number: site.width for number, site in zip(site_numbers(family, sites), sites, strict=True)}
    if family.joint_attention:
        modules = [TokenProjections(widths), StreamProjections(widths)]
        for module in modules:
            _draw_joint(module, generator)
    else:
        modules = [SiteProjections(widths, sites[0].context_width)]
        _copy_text_layers(modules[0], sites, base)
    for module in modules:
        parts.update({f"projections.{name}": weight for name, weight in module.state_dict().items()})
    return published(family, parts)


def from_file(start: AdapterCheckpoint, family: Family, sites: Sequence[Site], seed: int) -> AdapterCheckpoint:
    """An instruct adapter as it is, or one made of a Plus adapter by adding the layers that read texts.

    Raises ValueError for another kind, and for an adapter of another base model than the one it is to be taught on.
    Source: arXiv 2408.03209 section 4.
    """
    if start.kind not in (INSTRUCT, PLUS):
        raise ValueError(
            f"An IPAdapter-Instruct or an IP-Adapter Plus was expected to start from; this is {start.kind}. "
            "Choose another file, or start from scratch."
        )
    made = start if start.kind is INSTRUCT else _with_text_layers(start, seed)
    widths = _attention_widths(made)
    check_fit(made.family, made.image_projection["proj_out.weight"].shape[0], widths, list(sites), family.title)
    return made


def site_numbers(family: Family, sites: Sequence[Site]) -> list[int]:
    """The sites' numbers in an adapter file."""
    if family.joint_attention:
        return [site.key[1] for site in sites]
    return [2 * place + 1 for place in range(len(sites))]


def _sizes(family: Family, shape: Shape, out_width: int) -> ResamplerSizes:
    width = shape.width or PUBLISHED_WIDTHS.get(family.name, OTHER_WIDTH)
    return ResamplerSizes(
        tokens=shape.tokens,
        width=width,
        heads=shape.heads or max(1, width // HEAD_WIDTH),
        blocks=shape.blocks,
        image_width=IMAGE_WIDTH,
        text_width=TEXT_WIDTH,
        out_width=out_width,
        image_ff=shape.image_ff * width,
        prompt_ff=shape.text_ff * width,
        instruct_ff=shape.text_ff * width,
    )


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Norms as they are, biases zero, every linear so that it keeps its input's variance."""
    for name, weight in module.named_parameters():
        if name == "latents":
            weight.normal_(0.0, 1.0, generator=generator).div_(math.sqrt(weight.shape[-1]))
        elif weight.ndim == 2:
            weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=generator)
        elif name.endswith("bias"):
            weight.zero_()


@torch.no_grad()
def _quieten_texts(resampler: Resampler, generator: torch.Generator) -> None:
    """Have the layers that read texts say next to nothing at first, so that the picture is heard."""
    for name, weight in resampler.named_parameters():
        if name.startswith(NEW_LAYERS) and name.endswith(LAST_LINEARS):
            nn.init.normal_(weight, std=SPREAD, generator=generator)


@torch.no_grad()
def _draw_joint(module: nn.Module, generator: torch.Generator) -> None:
    for name, weight in module.named_parameters():
        layer = name.split(".")[1]
        if layer == "proj_encoder_passthrough_ip":
            nn.init.eye_(weight)
        elif layer in ("proj_ip", "proj_encoder_hidden_states_ip"):
            weight.zero_()
        else:
            weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=generator)


@torch.no_grad()
def _copy_text_layers(module: SiteProjections, sites: Sequence[Site], base: OwnModel) -> None:
    for layers, site in zip(module.children(), sites, strict=True):
        layers.to_k_ip.weight.copy_(_text_layer(base, f"{site.path}.attn2.to_k"))
        layers.to_v_ip.weight.copy_(_text_layer(base, f"{site.path}.attn2.to_v"))


def _text_layer(base: OwnModel, path: str) -> Tensor:
    weight = base.weight(path)
    if weight is None:
        raise ValueError(
            f"A new adapter begins with the model's own keys and values for text; {path} is a "
            f"{class_name(base.before(path))}, whose packed weight cannot be read. Connect the model without this "
            "quantization, or begin with an adapter's file."
        )
    return weight


def _with_text_layers(plus: AdapterCheckpoint, seed: int) -> AdapterCheckpoint:
    image = plus.image_projection
    width = image["latents"].shape[2]
    sizes = ResamplerSizes(
        tokens=image["latents"].shape[1],
        width=width,
        heads=image["layers.0.0.to_q.weight"].shape[0] // HEAD_WIDTH,
        blocks=len({name.split(".")[1] for name in image if name.startswith("layers.")}),
        image_width=image["proj_in.weight"].shape[1],
        text_width=TEXT_WIDTH,
        out_width=image["proj_out.weight"].shape[0],
        image_ff=image["layers.0.1.1.weight"].shape[0],
        prompt_ff=2 * width,
        instruct_ff=2 * width,
    )
    generator = torch.Generator().manual_seed(seed)
    resampler = Resampler(sizes)
    _draw(resampler, generator)
    _quieten_texts(resampler, generator)
    named = {name: image.get(name, weight) for name, weight in resampler.state_dict().items()}
    return recognise(
        {
            **{IMAGE_PROJECTION + name: weight for name, weight in named.items()},
            **{ATTENTION + name: weight for name, weight in plus.attention.items()},
        }
    )


def _attention_widths(checkpoint: AdapterCheckpoint) -> tuple[int, ...]:
    return build(checkpoint).projections.widths
