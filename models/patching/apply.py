"""Applying an adapter to a model."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.patcher_extension
from torch import Tensor

from ..choices import check_choice
from ..combining import latent_weights, product_of_cycles
from ..families import Family
from ..tasks import SIMPLE, THREE_WAY, advise
from . import hooks
from .chain import CHAIN, AppliedAdapter, Chain
from .embeds import InstructEmbeds
from .entrances import entrance_of, family_of_model
from .loaded_adapter import LoadedAdapter
from .masks import mask_frames
from .sites import Site, check_fit

AUTO = "auto"
WRAPPERS = {
    comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE: hooks.sampler_sample,
    comfy.patcher_extension.WrappersMP.CALC_COND_BATCH: hooks.calc_cond_batch,
    comfy.patcher_extension.WrappersMP.APPLY_MODEL: hooks.apply_model,
}


@dataclass(frozen=True)
class ApplySettings:
    """What a user sets in the Apply node. guidance: "auto", "simple" or "three-way".

    frame_weights: a factor on the weight for each latent of a batch, from the first on again when they are fewer.
    """

    weight: float = 0.8
    guidance: str = AUTO
    instruct_scale: float = 2.0
    image_scale: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    frame_weights: tuple[float, ...] = ()


def resolve(settings: ApplySettings, family: Family, instruction: str) -> tuple[float, str, list[str]]:
    """Effective weight, guidance mode, and both in words."""
    weight, guidance, reasons = settings.weight, settings.guidance, ()
    if guidance == AUTO:
        advice = advise(family, instruction)
        weight = round(weight + advice.weight_change, 4) if weight else 0.0  # 0 stays the bare model
        guidance, reasons = advice.guidance, advice.reasons
    return weight, guidance, [f"guidance: {guidance}, weight: {weight:g}", *(f"auto: {reason}" for reason in reasons)]


def apply_instruct(model, embeds: InstructEmbeds, settings: ApplySettings, mask: Tensor | None = None):
    """A clone of a ModelPatcher with the adapter applied, and what was chosen, in words, line by line.

    Raises ValueError when adapter and model do not belong together or the settings make no sense.
    """
    check_choice("guidance", settings.guidance, (AUTO, SIMPLE, THREE_WAY))
    if settings.start_percent > settings.end_percent:
        raise ValueError(
            f"start_percent was expected to be at most end_percent; they are {settings.start_percent:g} and "
            f"{settings.end_percent:g}. Swap them, or set 0 and 1 to act all the time."
        )
    adapter = embeds.adapter
    sites = _sites(model, adapter)
    weight, guidance, choices = resolve(settings, adapter.family, embeds.instruction)
    tokens, own_weights = latent_weights(embeds.tokens)
    applied = AppliedAdapter(
        adapter=adapter,
        tokens=tokens,
        site_keys=tuple(site.key for site in sites),
        weight=weight,
        guidance=guidance,
        instruct_scale=settings.instruct_scale,
        image_scale=settings.image_scale,
        start_percent=settings.start_percent,
        end_percent=settings.end_percent,
        mask=None if mask is None else mask_frames(mask, "attn_mask"),
        frame_weights=product_of_cycles(settings.frame_weights, own_weights),
    )
    notes = entrance_of(adapter.family).notes(model.get_model_object("diffusion_model"))
    return _with_applied(model, applied), [*choices, *notes]


def _sites(model, adapter: LoadedAdapter) -> list[Site]:
    diffusion_model = model.get_model_object("diffusion_model")
    title = type(model.model).__name__
    entrance = entrance_of(adapter.family)
    if not entrance.is_met_by(diffusion_model):
        found = family_of_model(diffusion_model)
        but, its_adapter = ("", "the adapter for this one")
        if found is not None:
            but, its_adapter = f" but {found.title}", f"the {found.title} adapter ({found.published_file})"
        raise ValueError(
            f"This adapter is for {adapter.family}, the connected model ({title}) is not {adapter.family.title}'s "
            f"{entrance.kind}{but}. Connect an {adapter.family.title} model, or load {its_adapter}."
        )
    sites = entrance.sites(diffusion_model)
    check_fit(adapter.family, adapter.context_width, adapter.projections.widths, sites, title)
    return sites


def _with_applied(model, applied: AppliedAdapter):
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    if CHAIN not in options:
        for kind, wrapper in WRAPPERS.items():
            patched.add_wrapper_with_key(kind, CHAIN, wrapper)
    options[CHAIN] = options.get(CHAIN, Chain()).then(applied)
    if applied.adapter.streams:
        patched.set_model_patch(CarriedWeights(applied.adapter.streams), CHAIN)
    return patched


class CarriedWeights:
    """Among the model's patches, where the host looks for what to load and free together with the model."""

    def __init__(self, weights):
        self._weights = weights

    def models(self) -> list:
        return [self._weights]

    def __deepcopy__(self, memo: dict) -> CarriedWeights:
        return self
