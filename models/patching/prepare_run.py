"""Prepare a sampling run: everything that no step changes is computed here, once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import comfy.patcher_extension
import torch
from torch import Tensor

from ..denoisers.denoiser import denoiser_of
from ..denoisers.model_view import ModelView, SiteKey
from ..denoisers.rows import SiteMasks
from ..denoisers.site_checks import doubted_sites
from ..guidance.weight_schedule import NOISE, Schedule, StepPositions, noise_position
from .batch_index import WholeLatent
from .chain import Applied, Chain
from .face_lora import check_lora
from .run import ROWS, BranchKeysValues, Run, StepAdapter, level_at, sigma_window


def prepare_run(chain: Chain, guider, sigmas: Tensor, whole: WholeLatent) -> Run:
    """Make keys and values for every adapter that has any weight. The guider's model must be loaded by now.

    sigmas: the noise levels of the steps, and the last one's end.
    """
    applied = [a for a in chain.applied if any(a.batch_weights) and a.acting_sites and a.start_percent <= a.end_percent]
    steps = StepPositions(sigmas.tolist())
    adapters = tuple(_prepared(a, guider.model_patcher, steps) for a in applied)
    model = ModelView(guider.model_patcher)
    doubted = {key: words for a in applied for key, words in _doubted(a, model).items()}
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    wrappers = comfy.patcher_extension.get_all_wrappers(kind, guider.model_options, is_model_options=True)
    denoiser = denoiser_of(chain.applied[0].adapter.family)  # all adapters of a chain fit the same model
    return Run(adapters, steps, whole, guider, not wrappers, denoiser, doubted)


def _doubted(applied: Applied, model: ModelView) -> dict[SiteKey, str]:
    """Return sites where only running shows whether the adapter acts. Raises ValueError where it is known it won't.

    Apply has asked, too, but other nodes may stand between it and the sampler.
    """
    denoiser = denoiser_of(applied.adapter.family)
    sites = [site for site in denoiser.sites(model) if site.key in applied.acting_sites]
    denoiser.check_open(model, sites)
    if applied.lora_strength:
        check_lora(applied, model)
    return doubted_sites(model, sites)


def _prepared(applied: Applied, model_patcher, steps: StepPositions) -> StepAdapter:
    schedule = applied.settings.schedule
    rows = ROWS if applied.is_three_way else ROWS[:2]
    model = model_patcher.model
    dtype = model.manual_cast_dtype or model.get_dtype()
    tokens = torch.cat([applied.tokens.branches[branch] for branch in rows]).to(model_patcher.load_device)
    tokens = denoiser_of(applied.adapter.family).embed(model.diffusion_model, tokens, dtype)
    sites = applied.acting_sites
    wanted = [place for place, site in enumerate(applied.layers) if site in sites]
    pairs = applied.adapter.keys_values(tokens, dtype, wanted)
    if applied.tokens.weights is not None:
        own = applied.tokens.weights.repeat(len(rows), 1).unsqueeze(-1).to(pairs[0][1])
        pairs = [(keys, values * own) for keys, values in pairs]
    sampling = model_patcher.get_model_object("model_sampling")
    return StepAdapter(
        applied=applied,
        of_branches=BranchKeysValues(dict(zip(sites, pairs, strict=True)), len(applied.tokens.branches.full)),
        window=sigma_window(applied.start_percent, applied.end_percent, sampling, applied.end_is_exclusive),
        masks=None if applied.mask is None else SiteMasks(applied.mask),
        three_way=sigma_window(0.0, schedule.three_way_until, sampling, end_is_exclusive=True),
        step_factor=None if schedule.is_steady else _step_factor(schedule, sampling, steps),
    )


def _step_factor(schedule: Schedule, sampling, steps: StepPositions) -> Callable[[float], float]:
    """Return what gives the schedule's factor at a noise level, without asking the device."""
    if schedule.along != NOISE:
        return lambda sigma: schedule.at(steps.at(sigma))
    sampling = copy.deepcopy(sampling).cpu()
    begins = [level_at(position, sampling) for position, _ in schedule.points]

    @cache
    def factor(sigma: float) -> float:
        begun = sum(sigma <= begin for begin in begins)
        return schedule.after(begun, noise_position(sampling.percent_to_sigma, sigma))

    return factor
