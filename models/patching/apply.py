"""Applying an adapter to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.patcher_extension
from torch import Tensor

from ..choices import check_choice, check_numbers
from ..combining import latent_weights, product_of_cycles
from ..families import Family
from ..guidance import count_passes
from ..layers import LayerWeights, layer_factors
from ..schedules import Schedule
from ..tasks import AUTO, SIMPLE, THREE_WAY, advise
from . import hooks
from .chain import CHAIN, AppliedAdapter, Chain
from .embeds import InstructEmbeds
from .entrances import entrance_of, family_of_model
from .face_lora import add_lora
from .loaded_adapter import LoadedAdapter
from .masks import MOST_CHANNELS, mask_frames
from .own_model import OwnModel, class_name
from .sites import Site, check_fit
from .timed_embeds import TimedEmbeds, Turn, turns_of

WRAPPERS = {
    comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE: hooks.sampler_sample,
    comfy.patcher_extension.WrappersMP.CALC_COND_BATCH: hooks.calc_cond_batch,
    comfy.patcher_extension.WrappersMP.APPLY_MODEL: hooks.apply_model,
}


@dataclass(frozen=True)
class ApplySettings:
    """What a user sets in the Apply node. guidance: "auto", "simple" or "three-way".

    frame_weights: a factor on the weight for each latent of a batch, from the first on again when they are fewer.
    schedule: factors on the weight over the sampling. layers: and in each of the model's attentions.
    three_way_until: the fraction of the sampling schedule from which on guidance is simple.
    lora_strength: of the LoRA in a FaceID file, which acts at every step.
    """

    weight: float = 0.8
    guidance: str = AUTO
    instruct_scale: float = 2.0
    image_scale: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    frame_weights: tuple[float, ...] = ()
    schedule: Schedule | None = None
    layers: LayerWeights | None = None
    three_way_until: float = 1.0
    lora_strength: float = 1.0


def resolve(settings: ApplySettings, adapter: LoadedAdapter, instruction: str) -> tuple[float, str, list[str]]:
    """Effective weight, guidance mode, and both in words."""
    weight, guidance, reasons = settings.weight, settings.guidance, ()
    if not adapter.kind.takes_instruction:
        reasons = (f"simple, since {adapter.kind} takes no instruction to be guided by",) if guidance != SIMPLE else ()
        guidance = SIMPLE
    elif guidance == AUTO:
        advice = advise(adapter.family, instruction)
        weight = round(weight + advice.weight_change, 4) if weight else 0.0  # 0 stays the bare model
        guidance, reasons = advice.guidance, advice.reasons
    said = f"guidance: {guidance}, weight: {weight:g}"
    return weight, guidance, [said, *(f"{settings.guidance}: {reason}" for reason in reasons)]


def passes(guidance: str, settings: ApplySettings) -> str:
    """How often the model runs in a step, in words."""
    if guidance == SIMPLE:
        return "passes a step: 2, 1 at cfg 1"
    scales = settings.instruct_scale, settings.image_scale
    at = {cfg: count_passes(*scales, cfg) for cfg in (settings.instruct_scale, 1.0)}
    if settings.guidance == AUTO:
        at[1.0] = 1
    counts = [f"{count} at cfg {cfg:g}" for cfg, count in at.items()]
    until = [f"2 from {settings.three_way_until:g} on"] if settings.three_way_until < 1 else []
    return f"passes a step: {', '.join([str(count_passes(*scales)), *counts, *until])}"


def apply_instruct(model, embeds: InstructEmbeds | TimedEmbeds, settings: ApplySettings, mask: Tensor | None = None):
    """A clone of a ModelPatcher with the adapter applied, and what was chosen, in words, line by line.

    Raises ValueError when adapter and model do not belong together or the settings make no sense.
    """
    check_choice("guidance", settings.guidance, (AUTO, SIMPLE, THREE_WAY))
    check_numbers(
        weight=settings.weight,
        instruct_guidance=settings.instruct_scale,
        image_guidance=settings.image_scale,
        start_percent=settings.start_percent,
        end_percent=settings.end_percent,
        three_way_until=settings.three_way_until,
        lora_strength=settings.lora_strength,
    )
    if settings.start_percent > settings.end_percent:
        raise ValueError(
            f"start_percent was expected to be at most end_percent; they are {settings.start_percent:g} and "
            f"{settings.end_percent:g}. Swap them, or set 0 and 1 to act all the time."
        )
    frames = None if mask is None else mask_frames(mask, "attn_mask")
    turns = turns_of(embeds)
    added, lines = [], []
    for turn in turns:
        applied, choices = _applied(model, turn, settings, frames)
        added.append(applied)
        lines += choices if len(turns) == 1 else [f"{turn.start:g} to {turn.end:g}: {line}" for line in choices]
    family = turns[0].embeds.adapter.family
    notes = entrance_of(family).notes(OwnModel(model))
    before = model.model_options["transformer_options"].get(CHAIN, Chain())
    patched = _with_applied(model, added)
    return patched, [*lines, *notes, *_narrow_masks(frames), *_with_loras(patched, added, before)]


def _narrow_masks(frames: Tensor | None) -> list[str]:
    """What is said of several masks [F, H, W] that are as narrow as a channel axis: [H, W, 1] looks the same."""
    if frames is None or len(frames) == 1 or frames.shape[-1] > MOST_CHANNELS:
        return []
    count, height, width = frames.shape
    return [f"attn_mask: {count} masks of {height} x {width} (height x width), one for each latent in turn"]


def _applied(model, turn: Turn, settings: ApplySettings, mask: Tensor | None) -> tuple[AppliedAdapter, list[str]]:
    """One turn's adapter, and what was chosen for it, in words."""
    embeds, adapter = turn.embeds, turn.embeds.adapter
    own = OwnModel(model)
    sites = _sites(own, adapter)
    weight, guidance, choices = resolve(settings, adapter, embeds.instruction)
    tokens, own_weights = latent_weights(embeds.tokens)
    keys = tuple(site.key for site in sites)
    own_layers = settings.layers or LayerWeights()
    end = min(settings.end_percent, turn.end)
    applied = AppliedAdapter(
        adapter=adapter,
        tokens=tokens,
        site_keys=keys,
        weight=weight,
        guidance=guidance,
        instruct_scale=settings.instruct_scale,
        image_scale=settings.image_scale,
        start_percent=max(settings.start_percent, turn.start),
        end_percent=end,
        mask=mask,
        frame_weights=product_of_cycles(settings.frame_weights, own_weights),
        followed=end == turn.end < 1.0,
        is_auto=settings.guidance == AUTO and adapter.kind.takes_instruction,
        three_way_until=settings.three_way_until,
        schedule=settings.schedule,
        layers=layer_factors(own_layers, adapter.family, entrance_of(adapter.family).layers(keys)),
        scaling=own_layers.scaling,
        instruction=embeds.instruction,
        lora_strength=settings.lora_strength if adapter.lora and weight else 0.0,
    )
    entrance_of(adapter.family).check_open(own, [site for site in sites if site.key in applied.acting_sites])
    return applied, [*choices, passes(guidance, settings)]


def _sites(model: OwnModel, adapter: LoadedAdapter) -> list[Site]:
    family, entrance = adapter.family, entrance_of(adapter.family)
    sites = entrance.sites(model) if entrance.is_met_by(model) else []
    if not sites:
        raise ValueError(f"This adapter is for {family}, {_of_another_kind(model, family, entrance.kind)}")
    check_fit(family, adapter.context_width, adapter.projections.widths, sites, model.title)
    return sites


def _of_another_kind(model: OwnModel, family: Family, kind: str) -> str:
    found = family_of_model(model)
    if found is not None:
        return (
            f"the connected model ({model.title}) is not {family.title}'s {kind} but {found.title}. Connect an "
            f"{family.title} model, or load the {found.title} adapter ({found.published_file})."
        )
    return (
        f"the connected model ({model.title}) is not {family.title}'s {kind} but a {class_name(model.denoiser)}; an "
        "engine built of a model, as by TensorRT, leaves an adapter no way in, either. Connect an "
        f"{family.title} model from Load Checkpoint ({family.fitting_model}), or load the adapter for this one."
    )


def _with_applied(model, added: Sequence[AppliedAdapter]):
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    if CHAIN not in options:
        for kind, wrapper in WRAPPERS.items():
            patched.add_wrapper_with_key(kind, CHAIN, wrapper)
    options[CHAIN] = options.get(CHAIN, Chain()).then(*added)
    for streams in dict.fromkeys(applied.adapter.streams for applied in added):
        if streams is not None:
            patched.set_model_patch(CarriedWeights(streams), CHAIN)
    return patched


def _with_loras(patched, added: Sequence[AppliedAdapter], before: Chain) -> list[str]:
    """Add the LoRAs of adapters that act to a model that is being made; what was done, in words.

    An adapter's LoRA is added once, however many Applies or turns it has: it changes the model, not a reference.
    """
    present = {one.adapter for one in before.applied if one.lora_strength}
    lines = []
    for one in {one.adapter: one for one in added if one.lora_strength}.values():
        if one.adapter in present:
            lines.append(f"LoRA of {one.adapter.name}: added by an Apply before, with its lora_strength")
            continue
        add_lora(patched, one.adapter, one.site_keys, one.lora_strength)
        lines.append(f"LoRA of {one.adapter.name}: strength {one.lora_strength:g}, at every step")
    return lines


class CarriedWeights:
    """Among the model's patches, where the host looks for what to load and free together with the model."""

    def __init__(self, weights):
        self._weights = weights

    def models(self) -> list:
        return [self._weights]

    def __deepcopy__(self, memo: dict) -> CarriedWeights:
        return self
