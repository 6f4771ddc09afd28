"""What a model carries: the adapters applied to it, in order. Immutable, shared by all its clones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..branches import Branches
from ..tasks import THREE_WAY
from .loaded_adapter import LoadedAdapter
from .sites import SiteKey

CHAIN = "ipadapter_instruct"


@dataclass(frozen=True, eq=False)
class AppliedAdapter:
    """One Apply: whose tokens, how strongly, when and where.

    image_tokens: [1, T, context width] for each branch. site_keys: where each pair of projections acts.
    start_percent, end_percent: fractions of the schedule. mask: [F, H, W] in 0..1, one or one a latent.
    """

    adapter: LoadedAdapter
    image_tokens: Branches[Tensor]
    site_keys: tuple[SiteKey, ...]
    weight: float
    guidance: str
    instruct_scale: float
    image_scale: float
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: Tensor | None = None

    @property
    def is_three_way(self) -> bool:
        return self.guidance == THREE_WAY


@dataclass(frozen=True, eq=False)
class Chain:
    """The applied adapters of one model.

    The host deep-copies a model's options at every clone; a chain never changes, so its copy is itself.
    """

    applied: tuple[AppliedAdapter, ...] = ()

    def then(self, applied: AppliedAdapter) -> Chain:
        return Chain((*self.applied, applied))

    def __deepcopy__(self, memo: dict) -> Chain:
        return self
