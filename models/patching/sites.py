"""Where image tokens enter a denoiser, derived from the model itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from ..families import FAMILIES, Family
from ..layers import INPUT, MIDDLE, OUTPUT, Layer
from .layer_size import layer_size
from .own_model import DENOISER, OwnModel, class_name

REMEDY = (
    "Bypass the node that put it there, or IPAdapter-Instruct, or set the weight there to 0 (Instruct Layer Weights)."
)
SiteKey = tuple
"""("input", 4, 0) for a UNet's cross-attention, ("double_block", 2) for a joint block."""


@dataclass(frozen=True)
class Site:
    """One attention: its key in the host's patches_replace, its widths, and the name of its block in the denoiser."""

    key: SiteKey
    width: int
    context_width: int
    block: str = ""

    @property
    def path(self) -> str:
        """The block's in the model."""
        return f"{DENOISER}.{self.block}"


def attn2_sites(model: OwnModel) -> list[Site]:
    """Every cross-attention of a ComfyUI UNet in diffusers' order: down blocks, up blocks, the middle block.

    The middle block's number is 0 whatever the module's place in it: the host names it ("middle", 0).
    """
    blocks = [
        ((part, number), path)
        for part in ("input", "output")
        for number, path in enumerate(model.entries(f"{DENOISER}.{part}_blocks"))
    ]
    blocks.append((("middle", 0), f"{DENOISER}.middle_block"))
    return [site for key, path in blocks for site in _sites_in(model, key, path)]


def _sites_in(model: OwnModel, key: tuple[str, int], block: str) -> Iterator[Site]:
    for layer in model.entries(block):
        for index, path in enumerate(model.entries(f"{layer}.transformer_blocks")):
            attention = model.before(f"{path}.attn2")
            if not hasattr(attention, "to_k"):
                raise _closed(f"the {class_name(attention)} at {path}.attn2")
            width, context_width = layer_size(model.before(f"{path}.attn2.to_k"))
            yield Site((*key, index), width, context_width, path.removeprefix(f"{DENOISER}."))


def check_attn2_open(model: OwnModel, sites: Iterable[Site]) -> None:
    """Raises ValueError unless adapters find a way into these cross-attentions.

    Where one acts, the host's block calls attn2's four layers in place of its forward: ComfyUI 0.3.75,
    BasicTransformerBlock. What stands in a block's own place decides itself, which shows when it runs.
    """
    for site in sites:
        path = f"{site.path}.attn2"
        if model.replaced(site.path) is not None:
            continue
        replaced = model.replaced(path)
        if replaced is not None:
            raise _closed(replaced)
        attention = model.at(path)
        if not all(hasattr(attention, name) for name in ("to_q", "to_k", "to_v", "to_out")):
            raise _closed(f"the {class_name(attention)} at {path}")


def _closed(found: str) -> ValueError:
    return ValueError(
        f"The adapter was expected to act in ComfyUI's own cross-attention; {found} leaves it no way in. {REMEDY}"
    )


def doubted_sites(model: OwnModel, sites: Iterable[Site]) -> dict[SiteKey, str]:
    """Sites in blocks whose way this clone has replaced, and by what, in words: it may or may not let adapters act."""
    replaced = ((site.key, model.replaced(site.path)) for site in sites)
    return {key: words for key, words in replaced if words is not None}


def check_reached(doubted: Mapping[SiteKey, str], wanted: Iterable[SiteKey], reached: Set[SiteKey] | None) -> None:
    """Raises ValueError when a call of the model passed a site by that an adapter was to act in."""
    for site in wanted:
        if site in doubted and site not in reached:
            raise ValueError(
                f"The adapter was expected to act in the attention {site}; {doubted[site]} passed it by. {REMEDY}"
            )


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
