"""Checks of the places where image tokens enter a denoiser, as the model itself has them."""

from collections.abc import Iterable, Mapping, Set

from ..families import FAMILIES, Family
from .model_view import ModelView, Site, SiteKey

BYPASS = (
    "Bypass the node that put it there, or IPAdapter-Instruct, or set the weight there to 0 (Instruct Layer Weights)."
)


def closed(found: str) -> ValueError:
    """Return the error for a site that leaves adapters no way in. found: what does."""
    return ValueError(
        f"The adapter was expected to act in ComfyUI's own cross-attention; {found} leaves it no way in. {BYPASS}"
    )


def doubted_sites(model: ModelView, sites: Iterable[Site]) -> dict[SiteKey, str]:
    """Return sites in blocks that this clone has replaced, and in words by what: adapters may or may not act there."""
    replaced = ((site.key, model.replaced(site.path)) for site in sites)
    return {key: words for key, words in replaced if words is not None}


def check_reached(doubted: Mapping[SiteKey, str], wanted: Iterable[SiteKey], reached: Set[SiteKey] | None) -> None:
    """Raises ValueError when a call of the model passed by a site where an adapter was to act.

    reached: the sites that the call came to; None where none is doubted.
    """
    for site in wanted:
        if reached is not None and site in doubted and site not in reached:
            raise ValueError(
                f"The adapter was expected to act in the attention {site}; {doubted[site]} passed it by. {BYPASS}"
            )


def family_of_sites(denoiser: str, sites: list[Site]) -> Family | None:
    """Return the family of this kind of denoiser whose adapters take context of the sites' width, or None."""
    widths = {site.context_width for site in sites}
    return next((f for f in FAMILIES if f.denoiser == denoiser and widths == {f.context_width}), None)


def check_fit(
    family: Family, context_width: int, adapter_widths: tuple[int, ...], sites: list[Site], model_title: str
) -> None:
    """Raises ValueError unless each layer of an adapter has its site, of the same widths and in the same order."""
    found = family_of_sites(family.denoiser, sites)
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
