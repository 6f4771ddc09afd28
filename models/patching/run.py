"""What there is during a sampling run, and no longer: `begin` makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ..branches import Branch
from ..layers import LayerFactor
from ..schedules import StepPositions
from .chain import AppliedAdapter
from .frames import WholeLatent
from .kept import Kept
from .masks import Area, SiteMasks
from .model_calls import ModelCalls
from .sites import SiteKey
from .window import SigmaWindow

RUN = "ipadapter_instruct_run"

Conds = list[dict]

# The host runs its lists from the last to the first, so a batch's rows come in this order (see `passes`)
# and its keys are a slice of these.
THREE_WAY_ROWS = (Branch.UNCOND, Branch.FULL, Branch.EVERYTHING, Branch.IMAGE_ONLY)
SIMPLE_ROWS = (Branch.UNCOND, Branch.FULL)

KEPT = 256


@dataclass(frozen=True)
class BranchKeysValues:
    """Keys and values of every site of one adapter: for each branch in `rows`, one row a frame that has its own."""

    rows: tuple[Branch, ...]
    sites: Mapping[SiteKey, tuple[Tensor, Tensor]]
    frames: int = 1

    def at(self, site: SiteKey, branches: Sequence[Branch], frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Keys and values of a chunk for each of `branches`, [C, T, site width]; [C b, ..] with frames of their own."""
        latents = (0,) if self.frames == 1 else [frame % self.frames for frame in frames]
        rows = [self.rows.index(branch) * self.frames + latent for branch in branches for latent in latents]
        keys, values = self.sites[site]
        return _take(keys, rows), _take(values, rows)

    def to(self, like: Tensor) -> BranchKeysValues:
        """The same on the device of `like`, and of its dtype."""
        return replace(self, sites={site: tuple(x.to(like) for x in pair) for site, pair in self.sites.items()})


@dataclass(frozen=True)
class BatchRows:
    """What the chunks of one model call are: a branch and an area each, of a latent of `latent_size`.

    input_size: height and width of what the call is for, which is smaller for an area.
    frames: which latents of the whole batch each chunk holds.
    reached: the sites that the call has come to by now; None where nobody asks, as a compiled model would for each.
    """

    branches: tuple[Branch, ...]
    areas: tuple[Area, ...]
    latent_size: tuple[int, int]
    input_size: tuple[int, int]
    frames: tuple[int, ...]
    reached: set[SiteKey] | None = field(default=None, compare=False)

    def note(self, site: SiteKey) -> None:
        """Keep that the call has come to a site."""
        if self.reached is not None:
            self.reached.add(site)


@dataclass(frozen=True, eq=False)
class RunningAdapter:
    """One adapter of the chain during a run.

    window: when it acts; three_way: when its guidance is three-way. None: all the time.
    step_factor: the factor on its weight at a noise level, or None for 1. layers: and at every site.

    What model calls on another device than the first need is copied there once, and goes with the run.
    """

    applied: AppliedAdapter
    keys_values: BranchKeysValues
    window: SigmaWindow | None
    masks: SiteMasks | None
    layers: Mapping[SiteKey, LayerFactor]
    three_way: SigmaWindow | None = None
    step_factor: Callable[[float], float] | None = None
    _factors: Kept[Tensor] = field(default_factory=lambda: Kept(KEPT), init=False)  # schedules ask for ever new ones
    _copies: Kept = field(default_factory=lambda: Kept(KEPT), init=False)

    def at(self, sigma: Callable[[], float]) -> ActingAdapter | None:
        """The adapter as it acts at a noise level, which is asked for if it matters; None when it does not act."""
        if self.window is not None and not self.window.contains(sigma()):
            return None
        factor = self.step_factor(sigma()) if self.step_factor else 1.0
        if not factor:
            return None
        is_three_way = self.applied.is_three_way and (self.three_way is None or self.three_way.contains(sigma()))
        return ActingAdapter(self, factor, is_three_way)

    def latent_factors(self, rows: BatchRows, like: Tensor, weight: float, on_negative: bool) -> Tensor:
        """`weight` with every row's own factors, [C b, 1, 1]; kept for the run, since the copy to the device waits."""
        key = (rows.frames, rows.branches, weight, on_negative, like.device, like.dtype)

        def make() -> Tensor:
            own = self.applied.frame_weights or (1.0,)
            latents = [weight * own[frame % len(own)] for frame in rows.frames]
            acts = [not (on_negative and branch.is_conditional) for branch in rows.branches]
            factors = [latent if act else 0.0 for act in acts for latent in latents]
            return like.new_tensor(factors)[:, None, None]

        return self._factors.get(key, make)

    def keys_values_on(self, like: Tensor) -> BranchKeysValues:
        """Keys and values on the device of `like`, and of its dtype; where they are, nothing is looked up."""
        made = next(iter(self.keys_values.sites.values()))[0]
        if (made.device, made.dtype) == (like.device, like.dtype):
            return self.keys_values
        return self._copies.get((like.device, like.dtype), lambda: self.keys_values.to(like))

    def stream_layers(self, block: int, like: Tensor) -> nn.Module | SimpleNamespace:
        """SD3's four layers for a block's streams on the device of `like`: the host's, or a copy of them."""
        adapter = self.applied.adapter
        if like.device == adapter.streams_device:
            return adapter.stream_layers(block)
        return self._copies.get((block, like.device, like.dtype), lambda: adapter.copied_stream_layers(block, like))

    def __deepcopy__(self, memo: dict) -> RunningAdapter:
        return self


@dataclass(frozen=True, eq=False)
class ActingAdapter:
    """A running adapter at one step. factor: the schedule's, on its weight."""

    running: RunningAdapter
    factor: float
    is_three_way: bool

    @property
    def applied(self) -> AppliedAdapter:
        return self.running.applied

    @property
    def sites(self) -> Collection[SiteKey]:
        """Where it acts."""
        return self.running.keys_values.sites.keys()

    @property
    def masks(self) -> SiteMasks | None:
        return self.running.masks

    @property
    def tells_latents_apart(self) -> bool:
        """Whether it matters to it which latents of the batch a call holds."""
        running = self.running
        weights = set(self.applied.frame_weights)
        return running.keys_values.frames > 1 or len(weights) > 1 or (self.masks is not None and self.masks.frames > 1)

    def is_on_negative(self, site: SiteKey) -> bool:
        """Whether it acts on the negative there, instead of on the positive."""
        return self.running.layers[site].on_negative

    def keys_values(self, site: SiteKey, rows: BatchRows, like: Tensor) -> tuple[Tensor, Tensor]:
        """What a site attends to: [C, T, site width]; with frames of their own, [C b, T, site width]."""
        branches = rows.branches
        if self.is_on_negative(site):
            branches = (Branch.FULL,) * len(branches)
        elif not self.is_three_way:
            branches = tuple(branch.in_simple_guidance for branch in branches)
        return self.running.keys_values_on(like).at(site, branches, rows.frames)

    def stream_layers(self, site: SiteKey, like: Tensor) -> nn.Module | SimpleNamespace:
        """SD3's four layers for the streams at a site."""
        return self.running.stream_layers(site[1], like)

    def weight(self, site: SiteKey, rows: BatchRows, like: Tensor) -> float | Tensor:
        """How strongly it acts at a site: one number, or [C b, 1, 1] where rows have weights of their own."""
        layer, own = self.running.layers[site], self.applied.frame_weights or (1.0,)
        weight = self.applied.weight * self.factor * layer.factor
        if len(set(own)) == 1 and not layer.on_negative:
            return weight * own[0]
        return self.running.latent_factors(rows, like, weight, layer.on_negative)


@dataclass(frozen=True, eq=False)
class Run:
    """The adapters of one sampling run, the latent that is sampled, and the guider's conditioning lists by name.

    `conds` is asked at every step, since the host replaces the lists after the run has begun, and so is `cfg`: the
    guider's scale where it combines the two predictions by it, or None. is_plain: and by nothing else.
    steps: how much of the run is over. calls: its calls of the denoiser. doubted: see `doubted_sites`.
    """

    adapters: tuple[RunningAdapter, ...]
    steps: StepPositions
    whole: WholeLatent
    conds: Callable[[], Mapping[str, Conds]]
    cfg: Callable[[], float | None] = lambda: None
    is_plain: bool = False
    calls: ModelCalls = field(default_factory=ModelCalls)
    doubted: Mapping[SiteKey, str] = field(default_factory=dict)

    def active(self, timestep: Tensor) -> tuple[ActingAdapter, ...]:
        """The adapters that act at this step. Reads the noise level back only if one asks for it, and then once."""
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
    """Rows at even distances are a view."""
    first, last, step = wanted[0], wanted[-1], wanted[1] - wanted[0] if len(wanted) > 1 else 1
    if step > 0 and wanted == list(range(first, last + 1, step)):
        return rows[first : last + 1 : step]
    return torch.cat([rows[row : row + 1] for row in wanted])
