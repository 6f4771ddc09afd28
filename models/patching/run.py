"""What there is during a sampling run, and no longer: `begin` makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..branches import Branch
from .chain import AppliedAdapter
from .masks import Area, SiteMasks
from .sites import SiteKey
from .window import SigmaWindow

RUN = "ipadapter_instruct_run"

Conds = list[dict]

# The host runs its lists from the last to the first, so a batch's rows come in this order (see `passes`)
# and its keys are a slice of these.
THREE_WAY_ROWS = (Branch.UNCOND, Branch.EVERYTHING, Branch.IMAGE_ONLY, Branch.FULL)
SIMPLE_ROWS = (Branch.UNCOND, Branch.FULL)


@dataclass(frozen=True)
class BranchKeysValues:
    """Keys and values of every site of one adapter: for each branch in `rows`, one row a frame that has its own."""

    rows: tuple[Branch, ...]
    sites: Mapping[SiteKey, tuple[Tensor, Tensor]]
    frames: int = 1

    def at(self, site: SiteKey, batch: BatchRows) -> tuple[Tensor, Tensor]:
        """Keys and values for a batch, [C, T, site width]; with frames of their own, [C b, T, site width]."""
        branches = batch.branches
        if self.rows == SIMPLE_ROWS:
            branches = [branch.in_simple_guidance for branch in branches]
        latents = (0,) if self.frames == 1 else [frame % self.frames for frame in batch.frames]
        rows = [self.rows.index(branch) * self.frames + latent for branch in branches for latent in latents]
        keys, values = self.sites[site]
        return _take(keys, rows), _take(values, rows)


@dataclass(frozen=True)
class BatchRows:
    """What the chunks of one model call are: a branch and an area each, of a latent of `latent_size`.

    input_size: height and width of what the call is for, which is smaller for an area.
    frames: which latents of the whole batch each chunk holds.
    """

    branches: tuple[Branch, ...]
    areas: tuple[Area, ...]
    latent_size: tuple[int, int]
    input_size: tuple[int, int]
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RunningAdapter:
    """One adapter of the chain during a run."""

    applied: AppliedAdapter
    keys_values: BranchKeysValues
    window: SigmaWindow | None
    masks: SiteMasks | None
    _made: dict[tuple, Tensor] = field(default_factory=dict, init=False)

    def weight(self, rows: BatchRows, like: Tensor) -> float | Tensor:
        """How strongly it acts: one number, or [C b, 1, 1] where latents have weights of their own."""
        own = self.applied.frame_weights or (1.0,)
        if len(set(own)) == 1:
            return self.applied.weight * own[0]
        key = (rows.frames, len(rows.branches), like.device, like.dtype)
        if key not in self._made:  # once a run, since the copy to the device waits
            factors = [self.applied.weight * own[frame % len(own)] for frame in rows.frames]
            self._made[key] = like.new_tensor(factors * len(rows.branches))[:, None, None]
        return self._made[key]

    def acts_at(self, sigma: Callable[[], float]) -> bool:
        return self.window is None or self.window.contains(sigma())


@dataclass(frozen=True, eq=False)
class Run:
    """The adapters of one sampling run and the guider's conditioning lists by name.

    `conds` is asked at every step, since the host replaces the lists after the run has begun.
    """

    adapters: tuple[RunningAdapter, ...]
    conds: Callable[[], Mapping[str, Conds]]

    def active(self, timestep: Tensor) -> tuple[RunningAdapter, ...]:
        """The adapters that act at this step. Reads the noise level back only if one has a window."""
        return tuple(a for a in self.adapters if a.acts_at(lambda: float(timestep[0])))

    def __deepcopy__(self, memo: dict) -> Run:
        return self


def _take(rows: Tensor, wanted: list[int]) -> Tensor:
    first = wanted[0]
    if wanted == list(range(first, first + len(wanted))):
        return rows[first : first + len(wanted)]
    return torch.cat([rows[row : row + 1] for row in wanted])
