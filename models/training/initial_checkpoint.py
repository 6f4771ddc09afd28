"""The checkpoint that training starts from: drawn, made of an IP-Adapter Plus, or an IPAdapter-Instruct as it is.

Axes: D width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from ..adapter.checkpoint import ATTENTION, IMAGE_PROJECTION, AdapterCheckpoint, build, recognise
from ..adapter.image_projections import PlusProjection
from ..adapter.kinds import INSTRUCT, PLUS
from ..adapter.resampler import HEAD_WIDTH, ProjectionSizes, Resampler
from ..denoisers.denoiser import denoiser_of
from ..denoisers.model_view import Site
from ..denoisers.site_checks import check_fit
from ..families import Family
from .frozen_base import FrozenBase
from .trainable_adapter import named_as_published

TEXT_LAYERS = ("prompt_layers.", "new_input_layers.")
OUTPUT_LINEARS = (".0.to_out.weight", ".1.3.weight")
TEXT_OUTPUT_STD = 1e-4
IMAGE_WIDTH, TEXT_WIDTH = 1280, 768  # ViT-H's, CLIP-L's


@dataclass(frozen=True)
class Shape:
    """The size of a new adapter; 0 is what published ones have. width: of the resampler. ff: times the width."""

    tokens: int = 16
    width: int = 0
    heads: int = 0
    blocks: int = 4
    image_ff: int = 4
    text_ff: int = 2


def from_scratch(base: FrozenBase, shape: Shape, seed: int) -> Mapping[str, Tensor]:
    """Draw the tensors of a new adapter, under published names.

    What its attention layers start as, the kind of denoiser says (`Denoiser.new_layers`). The layers that read texts
    start as in an adapter made of a Plus adapter.
    Source: arXiv 2408.03209 section 4 for texts; the rest is this pack's.
    """
    generator = torch.Generator().manual_seed(seed)
    resampler = _new_resampler(_sizes(base.family, shape, base.sites[0].context_width), generator)
    parts = {f"image_projection.{name}": weight for name, weight in resampler.state_dict().items()}
    for module in denoiser_of(base.family).new_layers(base.sites, base.view, generator):
        parts.update({f"projections.{name}": weight for name, weight in module.state_dict().items()})
    return named_as_published(base.family, parts)


def from_file(checkpoint: AdapterCheckpoint, family: Family, sites: Sequence[Site], seed: int) -> AdapterCheckpoint:
    """Return an instruct adapter as it is, or one made of a Plus adapter by adding the layers that read texts.

    Raises ValueError for another kind, and for an adapter of another base model than the one to train on.
    Source: arXiv 2408.03209 section 4.
    """
    if checkpoint.kind not in (INSTRUCT, PLUS):
        raise ValueError(
            f"An IPAdapter-Instruct or an IP-Adapter Plus was expected to start from; this is {checkpoint.kind}. "
            "Choose another file, or start from scratch."
        )
    made = checkpoint if checkpoint.kind is INSTRUCT else _with_text_layers(checkpoint, seed)
    widths = build(made).projections.widths
    check_fit(made.family, made.image_projection["proj_out.weight"].shape[0], widths, list(sites), family.title)
    return made


def _sizes(family: Family, shape: Shape, out_width: int) -> ProjectionSizes:
    width = shape.width or family.resampler_width
    return ProjectionSizes(
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


def _with_text_layers(plus: AdapterCheckpoint, seed: int) -> AdapterCheckpoint:
    image, own = plus.image_projection, PlusProjection.read_sizes(plus.image_projection)
    shape = Shape(own.tokens, own.width, own.heads, own.blocks)
    sizes = replace(_sizes(plus.family, shape, own.out_width), image_width=own.image_width, image_ff=own.image_ff)
    resampler = _new_resampler(sizes, torch.Generator().manual_seed(seed))
    named = {name: image.get(name, cast(Tensor, weight)) for name, weight in resampler.state_dict().items()}
    projection = {IMAGE_PROJECTION + name: weight for name, weight in named.items()}
    return recognise({**projection, **{ATTENTION + name: weight for name, weight in plus.attention.items()}})


@torch.no_grad()
def _new_resampler(sizes: ProjectionSizes, generator: torch.Generator) -> Resampler:
    """Draw a resampler: norms as they are, biases zero, and every linear so that it keeps its input's variance.

    What comes out of the layers that read texts is next to nothing at first, so that the image is read before them.
    """
    resampler = Resampler(sizes)
    for name, weight in resampler.named_parameters():
        if name == "latents":
            weight.normal_(0.0, 1.0, generator=generator).div_(math.sqrt(weight.shape[-1]))
        elif weight.ndim == 2:
            weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=generator)
        elif name.endswith("bias"):
            weight.zero_()
    for name, weight in resampler.named_parameters():
        if name.startswith(TEXT_LAYERS) and name.endswith(OUTPUT_LINEARS):
            weight.normal_(0.0, TEXT_OUTPUT_STD, generator=generator)
    return resampler
