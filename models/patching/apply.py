"""Apply an adapter to a model."""

from collections.abc import Sequence

import comfy.patcher_extension
from torch import Tensor

from ..denoisers.denoiser import denoiser_of, family_of_model
from ..denoisers.model_view import ModelView, Site, class_name
from ..denoisers.site_checks import check_fit
from ..encoding.embeds import InstructEmbeds, Keyframe, TimedEmbeds, keyframes_of
from ..encoding.loaded_adapter import LoadedAdapter
from ..encoding.pixels import MOST_CHANNELS, mask_batch
from ..guidance.branches import count_passes
from ..guidance.layer_weights import layer_factors
from ..guidance.tasks import AUTO, SIMPLE, THREE_WAY, advise
from ..messages import check_choice, check_numbers
from . import wrappers
from .chain import CHAIN, Applied, ApplySettings, Chain, Shared
from .face_lora import add_lora

WRAPPERS = {
    comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE: wrappers.sampler_sample,
    comfy.patcher_extension.WrappersMP.CALC_COND_BATCH: wrappers.calc_cond_batch,
    comfy.patcher_extension.WrappersMP.APPLY_MODEL: wrappers.apply_model,
}


def resolve(settings: ApplySettings, adapter: LoadedAdapter, instruction: str) -> tuple[float, str, list[str]]:
    """Return the effective weight, the guidance mode, and both in words."""
    weight, guidance, reasons = settings.weight, settings.guidance, ()
    if not adapter.kind.takes_instruction:
        reasons = (f"simple, since {adapter.kind} takes no instruction to be guided by",) if guidance != SIMPLE else ()
        guidance = SIMPLE
    elif guidance == AUTO:
        advice = advise(adapter.family, instruction)
        weight = round(weight + advice.weight_change, 4) if weight else 0.0  # 0 stays the bare model
        guidance, reasons = advice.guidance, advice.reasons
    chosen = f"guidance: {guidance}, weight: {weight:g}"
    return weight, guidance, [chosen, *(f"{settings.guidance}: {reason}" for reason in reasons)]


def passes(guidance: str, settings: ApplySettings) -> str:
    """Return in words how often the model runs in a step."""
    if guidance == SIMPLE:
        return "passes a step: 2, 1 at cfg 1"
    scales = settings.instruct_scale, settings.image_scale
    at = {cfg: count_passes(*scales, cfg) for cfg in (settings.instruct_scale, 1.0)}
    if settings.guidance == AUTO:
        at[1.0] = 1
    counts = [f"{count} at cfg {cfg:g}" for cfg, count in at.items()]
    last = settings.schedule.three_way_until
    until = [f"2 from {last:g} on"] if last < 1 else []
    return f"passes a step: {', '.join([str(count_passes(*scales)), *counts, *until])}"


def apply_instruct(model, embeds: InstructEmbeds | TimedEmbeds, settings: ApplySettings, mask: Tensor | None = None):
    """Return a clone of a ModelPatcher with the adapter applied, and what was chosen, in words, line by line.

    Raises ValueError when adapter and model do not belong together or the settings make no sense.
    """
    check_choice("guidance", settings.guidance, (AUTO, SIMPLE, THREE_WAY))
    check_numbers(
        weight=settings.weight,
        instruct_guidance=settings.instruct_scale,
        image_guidance=settings.image_scale,
        start_percent=settings.start_percent,
        end_percent=settings.end_percent,
    )
    if settings.start_percent > settings.end_percent:
        raise ValueError(
            f"start_percent was expected to be at most end_percent; they are {settings.start_percent:g} and "
            f"{settings.end_percent:g}. Swap them, or set 0 and 1 to act all the time."
        )
    masks = None if mask is None else mask_batch(mask, "attn_mask")
    keyframes = keyframes_of(embeds)
    added, lines = [], []
    for keyframe in keyframes:
        applied, choices = _applied(model, keyframe, settings, masks)
        added.append(applied)
        lines += (
            choices if len(keyframes) == 1 else [f"{keyframe.start:g} to {keyframe.end:g}: {line}" for line in choices]
        )
    family = keyframes[0].embeds.adapter.family
    notes = denoiser_of(family).notes(ModelView(model))
    before = model.model_options["transformer_options"].get(CHAIN, Chain())
    patched = _with_applied(model, added)
    return patched, [*lines, *notes, *_narrow_masks(masks), *_with_loras(patched, added, before)]


def _narrow_masks(masks: Tensor | None) -> list[str]:
    """Return a note on several masks [F, H, W] that are as narrow as a channel axis: [H, W, 1] looks the same."""
    if masks is None or len(masks) == 1 or masks.shape[-1] > MOST_CHANNELS:
        return []
    count, height, width = masks.shape
    return [f"attn_mask: {count} masks of {height} x {width} (height x width), one for each latent in turn"]


def _applied(model, keyframe: Keyframe, settings: ApplySettings, mask: Tensor | None) -> tuple[Applied, list[str]]:
    embeds, adapter = keyframe.embeds, keyframe.embeds.adapter
    denoiser = denoiser_of(adapter.family)
    own = ModelView(model)
    sites = _sites(own, adapter)
    weight, guidance, choices = resolve(settings, adapter, embeds.instruction)
    keys = tuple(site.key for site in sites)
    layers = layer_factors(settings.layers, adapter.family, denoiser.layers(keys), denoiser.scalings)
    applied = Applied(keyframe, settings, weight, guidance, dict(zip(keys, layers, strict=True)), mask)
    applied.batch_weights  # noqa: B018 (raises ValueError for weights that do not go together)
    denoiser.check_open(own, [site for site in sites if site.key in applied.acting_sites])
    return applied, [*choices, passes(guidance, settings)]


def _sites(model: ModelView, adapter: LoadedAdapter) -> list[Site]:
    denoiser = denoiser_of(adapter.family)
    sites = denoiser.sites(model) if denoiser.matches(model) else []
    if not sites:
        raise ValueError(_of_another_kind(model, adapter))
    check_fit(adapter.family, adapter.context_width, adapter.projections.widths, sites, model.title)
    return sites


def _of_another_kind(model: ModelView, adapter: LoadedAdapter) -> str:
    family, found = adapter.family, family_of_model(model)
    wanted = f"{family.title}'s {denoiser_of(family).name}"
    expected = f"This adapter is for {family}, the connected model ({model.title}) is not {wanted}"
    if found is not None:
        return (
            f"{expected} but {found.title}. Connect an {family.title} model, or load the {found.title} adapter "
            f"({found.published_file})."
        )
    return (
        f"{expected} but a {class_name(model.denoiser)}; an engine built of a model, as by TensorRT, leaves an adapter "
        f"no way in, either. Connect an {family.title} model from Load Checkpoint ({family.fitting_model}), or load "
        "the adapter for this one."
    )


def _with_applied(model, added: Sequence[Applied]):
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


def _with_loras(patched, added: Sequence[Applied], before: Chain) -> list[str]:
    """Add the LoRAs of adapters that act to a model that is being made; return in words what was done.

    An adapter's LoRA is added once, however many Applies or keyframes it has: it changes the model, not a reference.
    """
    present = {one.adapter for one in before.applied if one.lora_strength}
    lines = []
    for one in {one.adapter: one for one in added if one.lora_strength}.values():
        if one.adapter in present:
            lines.append(f"LoRA of {one.adapter.name}: added by an Apply before")
            continue
        add_lora(patched, one)
        lines.append(f"LoRA of {one.adapter.name}: strength {one.lora_strength:g}, at every step")
    return lines


class CarriedWeights(Shared):
    """An entry among the model's patches, where the host looks for what to load and free together with the model."""

    def __init__(self, weights):
        self._weights = weights

    def models(self) -> list:
        return [self._weights]
