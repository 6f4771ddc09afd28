"""The state of one sampling run, which `prepare_run` makes and which ends with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Protocol

import torch
from torch import Tensor, nn

from ..bounded_cache import RunCache
from ..denoisers.model_view import SiteKey
from ..denoisers.rows import BatchRows, Observer
from ..guidance.branches import Branch
from ..guidance.weight_schedule import StepPositions
from .batch_index import WholeLatent
from .chain import Applied
from .masks import SiteMasks
from .model_calls import ModelCalls
from .pooled_texts import Conds

RUN = "ipadapter_instruct_run"
OBSERVER = "ipadapter_instruct_observer"

# The host runs its lists from the last to the first, so a batch's rows come in this order (see `passes`)
# and its keys are a slice of these.
THREE_WAY_ROWS = (Branch.UNCOND, Branch.FULL, Branch.EVERYTHING, Branch.IMAGE_ONLY)
SIMPLE_ROWS = (Branch.UNCOND, Branch.FULL)

MOST_CACHED = 256


def level_at(percent: float, model_sampling) -> float:
    """Return the noise level at a fraction of the schedule, rounded to float32, as the levels of a run's steps are.

    A boundary is often just a step's level: in float64 the step would be in or out by chance.
    Source: ComfyUI 0.3.75, samplers.py, `get_area_and_mult`, where torch rounds the boundaries of
    ConditioningSetTimestepRange so, to compare them with a step's level.
    """
    return torch.tensor(float(model_sampling.percent_to_sigma(percent)), dtype=torch.float32).item()


@dataclass(frozen=True)
class SigmaWindow:
    """The noise levels from `start` down to `end`: both included, or, for a window that another one follows, not `end`.

    A step is in a window if ComfyUI's ConditioningSetTimestepRange of the same fractions acts at it.
    """

    start: float
    end: float
    end_is_exclusive: bool = False

    @classmethod
    def from_percents(
        cls, start_percent: float, end_percent: float, model_sampling, end_is_exclusive: bool = False
    ) -> SigmaWindow | None:
        """Return the window of two fractions of the schedule; None, which costs nothing, for all of it."""
        if start_percent <= 0.0 and end_percent >= 1.0:
            return None
        return cls(level_at(start_percent, model_sampling), level_at(end_percent, model_sampling), end_is_exclusive)

    def contains(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start and not (self.end_is_exclusive and sigma == self.end)


@dataclass(frozen=True)
class BranchKeysValues:
    """The keys and values of an adapter's sites: for each branch in `rows`, one row a latent that has its own."""

    rows: tuple[Branch, ...]
    sites: Mapping[SiteKey, tuple[Tensor, Tensor]]
    latents: int = 1

    def at(self, site: SiteKey, branches: Sequence[Branch], batch_indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return keys and values for each of `branches`, [C, T, site width]; [C b, ..] where latents have their own."""
        own = (0,) if self.latents == 1 else [batch_index % self.latents for batch_index in batch_indices]
        rows = [self.rows.index(branch) * self.latents + latent for branch in branches for latent in own]
        keys, values = self.sites[site]
        return _take(keys, rows), _take(values, rows)

    def to(self, like: Tensor) -> BranchKeysValues:
        """Return the same on the device of `like`, and of its dtype."""
        return replace(self, sites={site: tuple(x.to(like) for x in pair) for site, pair in self.sites.items()})


@dataclass(frozen=True, eq=False)
class Prepared:
    """One Apply, prepared for a run.

    window: when it acts; three_way: when its guidance is three-way. None: all the time.
    step_factor: the factor on its weight at a noise level, or None for 1.

    What model calls on another device than the first need is copied there once, and goes with the run.
    """

    applied: Applied
    keys_values: BranchKeysValues
    window: SigmaWindow | None
    masks: SiteMasks | None
    three_way: SigmaWindow | None = None
    step_factor: Callable[[float], float] | None = None
    # Schedules ask for ever new factors.
    _factors: RunCache[Tensor] = field(default_factory=lambda: RunCache(MOST_CACHED), init=False)
    _copies: RunCache = field(default_factory=lambda: RunCache(MOST_CACHED), init=False)

    def at(self, sigma: Callable[[], float]) -> StepAdapter | None:
        """Return the adapter at a noise level, which is asked for if it matters; None when it does not act."""
        if self.window is not None and not self.window.contains(sigma()):
            return None
        factor = self.step_factor(sigma()) if self.step_factor else 1.0
        if not factor:
            return None
        is_three_way = self.applied.is_three_way and (self.three_way is None or self.three_way.contains(sigma()))
        return StepAdapter(self, factor, is_three_way)

    def latent_factors(self, rows: BatchRows, like: Tensor, weight: float, on_negative: bool) -> Tensor:
        """Return `weight` times each row's own factors, [C b, 1, 1]; kept, since the copy to the device waits."""
        key = (rows.batch_indices, rows.branches, weight, on_negative, like.device, like.dtype)

        def make() -> Tensor:
            own = self.applied.batch_weights or (1.0,)
            latents = [weight * own[batch_index % len(own)] for batch_index in rows.batch_indices]
            acts = [not (on_negative and branch.is_conditional) for branch in rows.branches]
            factors = [latent if act else 0.0 for act in acts for latent in latents]
            return like.new_tensor(factors)[:, None, None]

        return self._factors.get(key, make)

    def keys_values_on(self, like: Tensor) -> BranchKeysValues:
        """Return keys and values on the device of `like`, and of its dtype; where they are, nothing is looked up."""
        made = next(iter(self.keys_values.sites.values()))[0]
        if (made.device, made.dtype) == (like.device, like.dtype):
            return self.keys_values
        return self._copies.get((like.device, like.dtype), lambda: self.keys_values.to(like))

    def stream_layers(self, block: int, like: Tensor) -> nn.Module | SimpleNamespace:
        """Return SD3's four layers for a block's streams on the device of `like`: the host's, or a copy of them."""
        adapter = self.applied.adapter
        if like.device == adapter.streams_device:
            return adapter.stream_layers(block)
        return self._copies.get((block, like.device, like.dtype), lambda: adapter.copied_stream_layers(block, like))

    def __deepcopy__(self, memo: dict) -> Prepared:
        return self


@dataclass(frozen=True, eq=False)
class StepAdapter:
    """An adapter at one step, as `SiteAdapter` says. factor: the schedule's, on its weight."""

    prepared: Prepared
    factor: float
    is_three_way: bool

    @property
    def applied(self) -> Applied:
        return self.prepared.applied

    @property
    def sites(self) -> Collection[SiteKey]:
        """The sites where it acts."""
        return self.prepared.keys_values.sites.keys()

    @property
    def masks(self) -> SiteMasks | None:
        return self.prepared.masks

    @property
    def scaling(self) -> str:
        return self.applied.settings.layers.scaling

    @property
    def tells_latents_apart(self) -> bool:
        """True when it matters which latents of the batch a call holds."""
        weights = set(self.applied.batch_weights)
        several_masks = self.masks is not None and self.masks.latents > 1
        return self.prepared.keys_values.latents > 1 or len(weights) > 1 or several_masks

    def is_on_negative(self, site: SiteKey) -> bool:
        return self.applied.layers[site].on_negative

    def keys_values(self, site: SiteKey, rows: BatchRows, like: Tensor) -> tuple[Tensor, Tensor]:
        branches = rows.branches
        if self.is_on_negative(site):
            branches = (Branch.FULL,) * len(branches)
        elif not self.is_three_way:
            branches = tuple(branch.in_simple_guidance for branch in branches)
        return self.prepared.keys_values_on(like).at(site, branches, rows.batch_indices)

    def stream_layers(self, site: SiteKey, like: Tensor) -> nn.Module | SimpleNamespace:
        return self.prepared.stream_layers(site[1], like)

    def weight(self, site: SiteKey, rows: BatchRows, like: Tensor) -> float | Tensor:
        layer, own = self.applied.layers[site], self.applied.batch_weights or (1.0,)
        weight = self.applied.weight * self.factor * layer.factor
        if len(set(own)) == 1 and not layer.on_negative:
            return weight * own[0]
        return self.prepared.latent_factors(rows, like, weight, layer.on_negative)


class RunObserver(Protocol):
    """Watches a sampling run. It changes nothing."""

    def begin(self, run: Run, layers: Mapping[SiteKey, int]) -> None:
        """Take note of a run that begins. layers: each block's number."""
        ...

    def step(self, run: Run, conds: Conds, noise_level: Tensor, in_parts: bool) -> AbstractContextManager[Observer]:
        """Return what sees the model calls of a step.

        conds: all conditions that are run. in_parts: for some of the latents, and others follow at the same level.
        """
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """The adapters of one sampling run, the latent that is sampled, and the guider's conditioning lists by name.

    `conds` is asked at every step, since the host replaces the lists after the run has begun, and so is `cfg`: the
    guider's scale where it combines the two predictions by it, or None. is_plain: and by nothing else.
    steps: how much of the run is over. calls: its calls of the denoiser. doubted: see `doubted_sites`.
    """

    adapters: tuple[Prepared, ...]
    steps: StepPositions
    whole: WholeLatent
    conds: Callable[[], Mapping[str, Conds]]
    cfg: Callable[[], float | None] = lambda: None
    is_plain: bool = False
    calls: ModelCalls = field(default_factory=ModelCalls)
    doubted: Mapping[SiteKey, str] = field(default_factory=dict)

    def active(self, timestep: Tensor) -> tuple[StepAdapter, ...]:
        """Return the adapters that act at this step. The noise level is read back once, and only if one asks for it."""
        level: list[float] = []

        def sigma() -> float:
            if not level:
                level.append(timestep[0].float().item())  # as `level_at` rounds boundaries
            return level[0]

        acting = (adapter.at(sigma) for adapter in self.adapters)
        return tuple(adapter for adapter in acting if adapter is not None)

    def __deepcopy__(self, memo: dict) -> Run:
        return self


def _take(rows: Tensor, wanted: list[int]) -> Tensor:
    """Return the wanted rows; those at even distances are a view."""
    first, last, step = wanted[0], wanted[-1], wanted[1] - wanted[0] if len(wanted) > 1 else 1
    if step > 0 and wanted == list(range(first, last + 1, step)):
        return rows[first : last + 1 : step]
    return torch.cat([rows[row : row + 1] for row in wanted])
