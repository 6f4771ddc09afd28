"""The weights that teaching begins with: drawn, from an IP-Adapter Plus, or from an IPAdapter-Instruct.

Axes: D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..adapter.checkpoint import ATTENTION, IMAGE_PROJECTION, AdapterCheckpoint, build, recognise
from ..adapter.kinds import INSTRUCT, PLUS
from ..adapter.resampler import HEAD_WIDTH, Resampler, ResamplerSizes
from ..denoisers.denoiser import denoiser_of
from ..denoisers.model_view import ModelView
from ..denoisers.site import Site
from ..denoisers.site_checks import check_fit
from ..families import SD15, Family
from .trainable_adapter import published

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
    start: AdapterCheckpoint | Shape, family: Family, sites: Sequence[Site], base: ModelView, seed: int
) -> AdapterCheckpoint:
    """Return the adapter to begin with: a drawn one of a shape, or what `from_file` makes of a given one."""
    if isinstance(start, Shape):
        return recognise(from_scratch(family, sites, base, start, seed))
    return from_file(start, family, sites, seed)


def from_scratch(family: Family, sites: Sequence[Site], base: ModelView, shape: Shape, seed: int) -> Mapping:
    """Draw the tensors of a new adapter, under published names.

    What its attention layers begin as, the kind of denoiser says (`Denoiser.new_layers`). The layers that read texts
    begin as in an adapter made of a Plus adapter.
    Source: arXiv 2408.03209 section 4 for texts; the rest is this pack's.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = _sizes(family, shape, sites[0].context_width)
    resampler = Resampler(sizes)
    _draw(resampler, generator)
    _quieten_texts(resampler, generator)
    parts = {f"image_projection.{name}": weight for name, weight in resampler.state_dict().items()}
    modules = denoiser_of(family).new_layers(sites, base, generator)
    for module in modules:
        parts.update({f"projections.{name}": weight for name, weight in module.state_dict().items()})
    return published(family, parts)


def from_file(start: AdapterCheckpoint, family: Family, sites: Sequence[Site], seed: int) -> AdapterCheckpoint:
    """Return an instruct adapter as it is, or one made of a Plus adapter by adding the layers that read texts.

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
    """Leave norms as they are, set biases to zero, and draw every linear so that it keeps its input's variance."""
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
    named = {name: image.get(name, cast(Tensor, weight)) for name, weight in resampler.state_dict().items()}
    return recognise(
        {
            **{IMAGE_PROJECTION + name: weight for name, weight in named.items()},
            **{ATTENTION + name: weight for name, weight in plus.attention.items()},
        }
    )


def _attention_widths(checkpoint: AdapterCheckpoint) -> tuple[int, ...]:
    return build(checkpoint).projections.widths
