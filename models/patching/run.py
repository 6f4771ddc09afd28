"""The state of one sampling run: what no step changes is computed once, in `prepare_run`, and ends with the run."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import SimpleNamespace

import comfy.patcher_extension
import torch
from comfy.samplers import CFGGuider
from torch import Tensor, nn

from ..bounded_cache import RunCache
from ..denoisers.denoiser import Denoiser, denoiser_of
from ..denoisers.model_view import ModelView, SiteKey
from ..denoisers.rows import MOST_CACHED, BatchRows, SiteMasks
from ..denoisers.site_checks import doubted_sites
from ..guidance.branches import Branch
from ..guidance.weight_schedule import NOISE, Schedule, StepPositions, noise_position
from .batch_index import WholeLatent
from .chain import Applied, Chain, Shared
from .face_lora import check_lora
from .model_calls import ModelCalls

RUN = "ipadapter_instruct_run"
OBSERVER = "ipadapter_instruct_observer"  # the `Watch` of attention_maps, which changes nothing

# The host runs its lists from the last to the first, so a batch's rows come in this order (see `passes`)
# and its keys are a slice of these. Simple guidance has the first two.
ROWS = (Branch.UNCOND, Branch.FULL, Branch.EVERYTHING, Branch.IMAGE_ONLY)


def level_at(percent: float, model_sampling) -> float:
    """Return the noise level at a fraction of the schedule, rounded to float32, as the levels of a run's steps are.

    A boundary is often just a step's level: in float64 the step would be in or out by chance.
    Source: ComfyUI 0.3.75, samplers.py, `get_area_and_mult`, where torch rounds the boundaries of
    ConditioningSetTimestepRange so, to compare them with a step's level.
    """
    return torch.tensor(float(model_sampling.percent_to_sigma(percent)), dtype=torch.float32).item()


def sigma_window(
    start_percent: float, end_percent: float, model_sampling, end_is_exclusive: bool = False
) -> Callable[[float], bool] | None:
    """Return what tells if a noise level is between two fractions of the schedule; None, which costs nothing, for all.

    Both ends are, or, where another window follows, only the start. A step is in a window if ComfyUI's
    ConditioningSetTimestepRange of the same fractions acts at it.
    """
    if start_percent <= 0.0 and end_percent >= 1.0:
        return None
    start, end = level_at(start_percent, model_sampling), level_at(end_percent, model_sampling)
    return lambda sigma: end <= sigma <= start and not (end_is_exclusive and sigma == end)


@dataclass(frozen=True)
class BranchKeysValues:
    """The keys and values of an adapter's sites: for each branch, in the order of ROWS, one row a latent of its own."""

    sites: Mapping[SiteKey, tuple[Tensor, Tensor]]
    latents: int = 1

    def at(self, site: SiteKey, branches: Sequence[Branch], batch_indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return keys and values for each of `branches`, [C, T, site width]; [C b, ..] where latents have their own."""
        own = (0,) if self.latents == 1 else [batch_index % self.latents for batch_index in batch_indices]
        rows = [ROWS.index(branch) * self.latents + latent for branch in branches for latent in own]
        keys, values = self.sites[site]
        return _take(keys, rows), _take(values, rows)

    def to(self, like: Tensor) -> "BranchKeysValues":
        """Return the same on the device of `like`, and of its dtype."""
        return replace(self, sites={site: tuple(x.to(like) for x in pair) for site, pair in self.sites.items()})


@dataclass(frozen=True, eq=False)
class StepAdapter(Shared):
    """One Apply in a sampling run and, with `factor` and `is_three_way`, at one step of it, as `SiteAdapter` says.

    window: at which noise levels it acts; three_way: at which its guidance is three-way. None: at all.
    step_factor: the schedule's factor on its weight at a noise level, or None for 1.

    What model calls on another device than the first need is copied there once, and goes with the run.
    """

    applied: Applied
    of_branches: BranchKeysValues
    window: Callable[[float], bool] | None
    masks: SiteMasks | None
    three_way: Callable[[float], bool] | None = None
    step_factor: Callable[[float], float] | None = None
    factor: float = 1.0
    is_three_way: bool = False
    # Schedules ask for ever new factors.
    _factors: RunCache[Tensor] = field(default_factory=lambda: RunCache(MOST_CACHED))
    _copies: RunCache = field(default_factory=lambda: RunCache(MOST_CACHED))

    def at(self, sigma: Callable[[], float]) -> "StepAdapter | None":
        """Return the adapter at a noise level, which is asked for if it matters; None when it does not act."""
        if self.window is not None and not self.window(sigma()):
            return None
        factor = self.step_factor(sigma()) if self.step_factor else 1.0
        is_three_way = self.applied.is_three_way and (self.three_way is None or self.three_way(sigma()))
        return replace(self, factor=factor, is_three_way=is_three_way) if factor else None

    @property
    def sites(self) -> Collection[SiteKey]:
        """The sites where it acts."""
        return self.of_branches.sites.keys()

    @property
    def scaling(self) -> str:
        return self.applied.settings.layers.scaling

    @property
    def tells_latents_apart(self) -> bool:
        """True when it matters which latents of the batch a call holds."""
        several_masks = self.masks is not None and len(self.masks) > 1
        return self.of_branches.latents > 1 or len(set(self.applied.batch_weights)) > 1 or several_masks

    def is_on_negative(self, site: SiteKey) -> bool:
        return self.applied.layers[site].on_negative

    def keys_values(self, site: SiteKey, rows: BatchRows, like: Tensor) -> tuple[Tensor, Tensor]:
        branches = rows.branches
        if self.is_on_negative(site):
            branches = (Branch.FULL,) * len(branches)
        elif not self.is_three_way:
            branches = tuple(branch.in_simple_guidance for branch in branches)
        own, (made, _) = self.of_branches, self.of_branches.sites[site]
        if (made.device, made.dtype) != (like.device, like.dtype):
            own = self._copies.get((like.device, like.dtype), lambda: self.of_branches.to(like))
        return own.at(site, branches, rows.batch_indices)

    def stream_layers(self, site: SiteKey, like: Tensor) -> nn.Module | SimpleNamespace:
        """Return SD3's four layers for a block's streams on the device of `like`: the host's, or a copy of them."""
        adapter, block = self.applied.adapter, site[1]
        if like.device == adapter.streams_device:
            return adapter.stream_layers(block)
        return self._copies.get((block, like.device, like.dtype), lambda: adapter.copied_stream_layers(block, like))

    def weight(self, site: SiteKey, rows: BatchRows, like: Tensor) -> float | Tensor:
        layer, own = self.applied.layers[site], self.applied.batch_weights
        weight = self.applied.weight * self.factor * layer.factor
        if len(set(own)) == 1 and not layer.on_negative:
            return weight * own[0]

        def make() -> Tensor:  # kept, since the copy to the device waits
            latents = [weight * own[batch_index % len(own)] for batch_index in rows.batch_indices]
            acts = [not (layer.on_negative and branch.is_conditional) for branch in rows.branches]
            return like.new_tensor([latent if act else 0.0 for act in acts for latent in latents])[:, None, None]

        key = (rows.batch_indices, rows.branches, weight, layer.on_negative, like.device, like.dtype)
        return self._factors.get(key, make)


@dataclass(frozen=True, eq=False)
class Run(Shared):
    """The adapters of one sampling run by a guider, and the latent that is sampled.

    guider: its conditioning lists and its scale may be replaced after the run has begun. is_plain: only the guider
    looks at its predictions. denoiser: the model's kind. steps: how much of the run is over. calls: its calls of the
    denoiser. doubted: see `doubted_sites`.
    """

    adapters: tuple[StepAdapter, ...]
    steps: StepPositions
    whole: WholeLatent
    guider: CFGGuider
    is_plain: bool
    denoiser: Denoiser
    doubted: Mapping[SiteKey, str]
    calls: ModelCalls = field(default_factory=ModelCalls)

    @property
    def cfg(self) -> float | None:
        """The guider's scale where it combines the two predictions by it, or None."""
        return self.guider.cfg if type(self.guider).predict_noise is CFGGuider.predict_noise else None

    def active(self, timestep: Tensor) -> tuple[StepAdapter, ...]:
        """Return the adapters that act at this step. The noise level is read back once, and only if one asks for it."""
        level: list[float] = []

        def sigma() -> float:
            if not level:
                level.append(timestep[0].float().item())  # as `level_at` rounds boundaries
            return level[0]

        acting = (adapter.at(sigma) for adapter in self.adapters)
        return tuple(adapter for adapter in acting if adapter is not None)


def prepare_run(chain: Chain, guider, sigmas: Tensor, whole: WholeLatent) -> Run:
    """Make keys and values for every adapter that has any weight. The guider's model must be loaded by now.

    sigmas: the noise levels of the steps, and the last one's end.
    """
    applied = [a for a in chain.applied if any(a.batch_weights) and a.acting_sites and a.start_percent <= a.end_percent]
    steps = StepPositions(sigmas.tolist())
    denoiser = denoiser_of(chain.applied[0].adapter.family)  # all adapters of a chain fit the same model
    adapters = tuple(_prepared(a, denoiser, guider.model_patcher, steps) for a in applied)
    model = ModelView(guider.model_patcher)
    doubted = {key: words for a in applied for key, words in _doubted(a, denoiser, model).items()}
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    wrappers = comfy.patcher_extension.get_all_wrappers(kind, guider.model_options, is_model_options=True)
    return Run(adapters, steps, whole, guider, not wrappers, denoiser, doubted)


def _doubted(applied: Applied, denoiser: Denoiser, model: ModelView) -> dict[SiteKey, str]:
    """Return sites where only running shows whether the adapter acts. Raises ValueError where it is known it won't.

    Apply has asked, too, but other nodes may stand between it and the sampler.
    """
    sites = [site for site in denoiser.sites(model) if site.key in applied.acting_sites]
    denoiser.check_open(model, sites)
    if applied.lora_strength:
        check_lora(applied, model)
    return doubted_sites(model, sites)


def _prepared(applied: Applied, denoiser: Denoiser, model_patcher, steps: StepPositions) -> StepAdapter:
    schedule = applied.settings.schedule
    rows = ROWS if applied.is_three_way else ROWS[:2]
    model = model_patcher.model
    dtype = model.manual_cast_dtype or model.get_dtype()
    tokens = torch.cat([applied.tokens.branches[branch] for branch in rows]).to(model_patcher.load_device)
    tokens = denoiser.embed(model.diffusion_model, tokens, dtype)
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


def _take(rows: Tensor, wanted: list[int]) -> Tensor:
    first, last, step = wanted[0], wanted[-1], wanted[1] - wanted[0] if len(wanted) > 1 else 1
    if step > 0 and wanted == list(range(first, last + 1, step)):
        return rows[first : last + 1 : step]
    return torch.cat([rows[row : row + 1] for row in wanted])
