"""Where image tokens enter a denoiser, derived from the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from ..families import FAMILIES, Family
from ..layers import INPUT, MIDDLE, OUTPUT, Layer

SiteKey = tuple
"""("input", 4, 0) for a UNet's cross-attention, ("double_block", 2) for a joint block."""


@dataclass(frozen=True)
class Site:
    """One attention: its key in the host's patches_replace, its widths, and in a UNet the name of its block."""

    key: SiteKey
    width: int
    context_width: int
    block: str = ""


def attn2_sites(diffusion_model: nn.Module) -> list[Site]:
    """Every cross-attention of a ComfyUI UNet in diffusers' order: down blocks, up blocks, the middle block.

    The middle block's number is 0 whatever the module's place in it: the host names it ("middle", 0).
    """
    blocks = [
        ((part, number), f"{part}_blocks.{number}", block)
        for part, own in (("input", diffusion_model.input_blocks), ("output", diffusion_model.output_blocks))
        for number, block in enumerate(own)
    ]
    blocks.append((("middle", 0), "middle_block", diffusion_model.middle_block))
    return [site for key, name, block in blocks for site in _sites_in(key, name, block)]


def _sites_in(key: tuple[str, int], name: str, block: nn.Module | None) -> Iterator[Site]:
    for place, layer in enumerate(block if block is not None else ()):
        for index, transformer in enumerate(getattr(layer, "transformer_blocks", ())):
            weight = transformer.attn2.to_k.weight
            yield Site((*key, index), *weight.shape, f"{name}.{place}.transformer_blocks.{index}")


def attn2_layers(sites: Sequence[SiteKey]) -> list[Layer]:
    """A UNet's cross-attentions, in groups that the model runs from first to last: down, the middle, up.

    Source: ComfyUI 0.3.75, openaimodel.py, which counts them so in `transformer_index`.
    """
    parts = (INPUT, MIDDLE, OUTPUT)
    blocks = sorted({site[:2] for site in sites}, key=lambda block: (parts.index(block[0]), block[1]))
    return [Layer(blocks.index(site[:2]), site[2], site[0]) for site in sites]


def joint_layers(sites: Sequence[SiteKey]) -> list[Layer]:
    """An MMDiT's joint attentions, one a group. All are of one kind: the parts are thirds of the depth."""
    parts = (INPUT, MIDDLE, OUTPUT)
    return [Layer(number, 0, parts[3 * number // len(sites)]) for number in range(len(sites))]


def model_family(sites: list[Site]) -> Family | None:
    """The family whose adapters take context of these sites' width, or None when there is none."""
    widths = {site.context_width for site in sites}
    return next((family for family in FAMILIES if widths == {family.context_width}), None)


def check_fit(
    family: Family, context_width: int, adapter_widths: tuple[int, ...], sites: list[Site], model_title: str
) -> None:
    """Raises ValueError unless each layer of an adapter has its site, of the same widths and in the same order."""
    found = model_family(sites)
    if found is not None and found is not family:
        raise ValueError(
            f"This adapter is for {family}, the connected model is {found.title} ({found.context_width}). "
            f"Connect an {family.title} model, or load the {found.title} adapter ({found.published_file})."
        )
    site_widths = tuple(site.width for site in sites)
    context_widths = {site.context_width for site in sites}
    if context_widths != {context_width} or site_widths != adapter_widths:
        raise ValueError(
            f"This adapter is for {family} with {len(adapter_widths)} attention layers of widths "
            f"{_counts(adapter_widths)}; the connected model ({model_title}) has {len(sites)} of widths "
            f"{_counts(site_widths)}, for context of width {', '.join(map(str, context_widths)) or 'none'}. "
            f"Connect {family.fitting_model}."
        )


def _counts(widths: tuple[int, ...]) -> str:
    return ", ".join(f"{widths.count(width)} x {width}" for width in sorted(set(widths))) or "none"
