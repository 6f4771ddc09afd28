"""The beginning of a sampling run: everything that no step changes is computed here, once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ..schedules import NOISE, Schedule, StepPositions, noise_position
from .chain import AppliedAdapter, Chain
from .entrances import entrance_of
from .face_lora import check_lora
from .frames import WholeLatent
from .masks import SiteMasks
from .own_model import OwnModel
from .run import SIMPLE_ROWS, THREE_WAY_ROWS, BranchKeysValues, Run, RunningAdapter
from .sites import SiteKey, doubted_sites
from .window import SigmaWindow, level_at


def begin_run(chain: Chain, guider, sigmas: Tensor, whole: WholeLatent) -> Run:
    """Keys and values for every adapter that has any weight. The guider's model must be loaded by now.

    sigmas: the noise levels of the steps, and the last one's end.
    """
    applied = [a for a in chain.applied if _acts(a)]
    steps = StepPositions(sigmas.tolist())
    adapters = tuple(_running(a, guider.model_patcher, steps) for a in applied)
    model = OwnModel(guider.model_patcher)
    doubted = {key: words for a in applied for key, words in _doubted(a, model).items()}
    own = type(guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    wrappers = comfy.patcher_extension.get_all_wrappers(kind, guider.model_options, is_model_options=True)
    cfg = (lambda: None) if own else (lambda: guider.cfg)
    return Run(adapters, steps, whole, lambda: guider.conds, cfg, is_plain=not wrappers, doubted=doubted)


def _doubted(applied: AppliedAdapter, model: OwnModel) -> dict[SiteKey, str]:
    """Sites of which only running shows whether the adapter acts there. Raises ValueError where it is known it won't.

    Apply has asked, too, but other nodes may stand between it and the sampler.
    """
    entrance = entrance_of(applied.adapter.family)
    sites = [site for site in entrance.sites(model) if site.key in applied.acting_sites]
    entrance.check_open(model, sites)
    if applied.lora_strength:
        check_lora(applied.adapter, applied.site_keys, model)
    return doubted_sites(model, sites)


def _acts(applied: AppliedAdapter) -> bool:
    weights = (any(applied.frame_weights or (1.0,)), applied.acting_sites)
    return all(weights) and applied.start_percent <= applied.end_percent


def _running(applied: AppliedAdapter, model_patcher, steps: StepPositions) -> RunningAdapter:
    rows = THREE_WAY_ROWS if applied.is_three_way else SIMPLE_ROWS
    model = model_patcher.model
    dtype = model.manual_cast_dtype or model.get_dtype()
    tokens = torch.cat([applied.tokens.branches[branch] for branch in rows]).to(model_patcher.load_device)
    tokens = entrance_of(applied.adapter.family).embed(model.diffusion_model, tokens, dtype)
    wanted = [place for place, layer in enumerate(applied.layers) if layer.factor]
    pairs = applied.adapter.keys_values(tokens, dtype, wanted)
    if applied.tokens.weights is not None:
        own = applied.tokens.weights.repeat(len(rows), 1).unsqueeze(-1).to(pairs[0][1])
        pairs = [(keys, values * own) for keys, values in pairs]
    sites = [applied.site_keys[place] for place in wanted]
    sampling = model_patcher.get_model_object("model_sampling")
    return RunningAdapter(
        applied=applied,
        keys_values=BranchKeysValues(rows, dict(zip(sites, pairs, strict=True)), len(applied.tokens.branches.full)),
        window=SigmaWindow.from_percents(applied.start_percent, applied.end_percent, sampling, applied.followed),
        masks=None if applied.mask is None else SiteMasks(applied.mask),
        three_way=SigmaWindow.from_percents(0.0, applied.three_way_until, sampling, followed=True),
        step_factor=applied.schedule and _step_factor(applied.schedule, sampling, steps),
        layers=dict(zip(applied.site_keys, applied.layers, strict=True)),
    )


def _step_factor(schedule: Schedule, sampling, steps: StepPositions) -> Callable[[float], float]:
    """The schedule's factor at a noise level, without asking the device."""
    if schedule.along != NOISE:
        return lambda sigma: schedule.at(steps.at(sigma))
    sampling = copy.deepcopy(sampling).cpu()
    begins = [level_at(position, sampling) for position, _ in schedule.points]

    @cache
    def factor(sigma: float) -> float:
        begun = sum(sigma <= begin for begin in begins)
        return schedule.after(begun, noise_position(sampling.percent_to_sigma, sigma))

    return factor
