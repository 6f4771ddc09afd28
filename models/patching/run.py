"""What is computed once for a sampling run, and thrown away at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..branches import Branch
from .chain import AppliedAdapter, Chain
from .masks import SiteMasks
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
    """Keys and values of every site of one adapter, one row for each branch in `rows`."""

    rows: tuple[Branch, ...]
    sites: Mapping[SiteKey, tuple[Tensor, Tensor]]

    def at(self, site: SiteKey, branches: Sequence[Branch]) -> tuple[Tensor, Tensor]:
        """Keys and values for a batch of these branches, [len(branches), T, site width]."""
        if self.rows == SIMPLE_ROWS:
            branches = [branch.in_simple_guidance for branch in branches]
        rows = [self.rows.index(branch) for branch in branches]
        keys, values = self.sites[site]
        return _take(keys, rows), _take(values, rows)


@dataclass(frozen=True, eq=False)
class RunningAdapter:
    """One adapter of the chain during a run."""

    applied: AppliedAdapter
    keys_values: BranchKeysValues
    window: SigmaWindow | None
    masks: SiteMasks | None

    def acts_at(self, sigma: Callable[[], float]) -> bool:
        return self.window is None or self.window.contains(sigma())


@dataclass(frozen=True, eq=False)
class Run:
    """The adapters of one sampling run and the guider's conditioning lists by name.

    `conds` is asked at every step, since the host replaces the lists after the run has begun.
    """

    adapters: tuple[RunningAdapter, ...]
    conds: Callable[[], Mapping[str, Conds]]

    @classmethod
    def begin(cls, chain: Chain, model_patcher, conds: Callable[[], Mapping[str, Conds]]) -> Run:
        """Compute keys and values for every adapter that has any weight."""
        applied = [a for a in chain.applied if a.weight != 0]
        return cls(tuple(_running(a, model_patcher) for a in applied), conds)

    def active(self, timestep: Tensor) -> tuple[RunningAdapter, ...]:
        """The adapters that act at this step. Reads the noise level back only if one has a window."""
        return tuple(a for a in self.adapters if a.acts_at(lambda: float(timestep[0])))

    def __deepcopy__(self, memo: dict) -> Run:
        return self


def _running(applied: AppliedAdapter, model_patcher) -> RunningAdapter:
    rows = THREE_WAY_ROWS if applied.is_three_way else SIMPLE_ROWS
    model = model_patcher.model
    dtype = model.manual_cast_dtype or model.get_dtype()
    pairs = applied.adapter.keys_values([applied.image_tokens[branch] for branch in rows], dtype)
    model_sampling = model_patcher.get_model_object("model_sampling")
    return RunningAdapter(
        applied=applied,
        keys_values=BranchKeysValues(rows, dict(zip(applied.site_keys, pairs, strict=True))),
        window=SigmaWindow.from_percents(applied.start_percent, applied.end_percent, model_sampling),
        masks=None if applied.mask is None else SiteMasks(applied.mask),
    )


def _take(rows: Tensor, wanted: list[int]) -> Tensor:
    first = wanted[0]
    if wanted == list(range(first, first + len(wanted))):
        return rows[first : first + len(wanted)]
    return torch.cat([rows[row : row + 1] for row in wanted])
