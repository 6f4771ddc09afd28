"""What a model carries: the adapters applied to it, in order. Immutable, shared by all its clones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..combining import ImageTokens
from ..layers import V_ONLY, LayerFactor
from ..schedules import Schedule
from ..tasks import THREE_WAY
from .loaded_adapter import LoadedAdapter
from .sites import SiteKey

CHAIN = "ipadapter_instruct"


@dataclass(frozen=True, eq=False)
class AppliedAdapter:
    """One Apply: whose tokens, how strongly, when and where.

    tokens: [n, T, context width] for each branch, the same for all latents (n = 1) or one for each, and their weights.
    site_keys: where each pair of projections acts. start_percent, end_percent: fractions of the schedule.
    mask: [F, H, W] in 0..1, one or one a latent. frame_weights: one factor a latent, or none.
    followed: another one takes over at end_percent.
    is_auto: the pack has chosen the guidance. three_way_until: the fraction from which on guidance is simple.
    lora_strength: with which the adapter's LoRA was added to the model, by this Apply or one before; 0 for not at all.
    schedule: factors on the weight over the sampling. layers: one for each site. scaling: see `LayerWeights`.
    """

    adapter: LoadedAdapter
    tokens: ImageTokens
    site_keys: tuple[SiteKey, ...]
    weight: float
    guidance: str
    instruct_scale: float
    image_scale: float
    layers: tuple[LayerFactor, ...]
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: Tensor | None = None
    frame_weights: tuple[float, ...] = ()
    followed: bool = False
    is_auto: bool = False
    three_way_until: float = 1.0
    schedule: Schedule | None = None
    scaling: str = V_ONLY
    instruction: str = ""
    lora_strength: float = 0.0

    @property
    def is_three_way(self) -> bool:
        return self.guidance == THREE_WAY

    @property
    def acting_sites(self) -> tuple[SiteKey, ...]:
        """Where it has any weight."""
        weights = (self.weight * layer.factor for layer in self.layers)
        return tuple(key for key, weight in zip(self.site_keys, weights, strict=True) if weight)


@dataclass(frozen=True, eq=False)
class Chain:
    """The applied adapters of one model.

    The host deep-copies a model's options at every clone; a chain never changes, so its copy is itself.
    """

    applied: tuple[AppliedAdapter, ...] = ()

    def then(self, *applied: AppliedAdapter) -> Chain:
        return Chain((*self.applied, *applied))

    @property
    def has_plain(self) -> bool:
        """Whether an adapter takes no instruction, so that it is guided simply whatever was asked for."""
        return any(not applied.adapter.kind.takes_instruction for applied in self.applied)

    def guided(self, instruct_scale: float, image_scale: float) -> Chain:
        """The chain in three-way guidance with these scales; an Apply that asks for simple guidance keeps it."""
        scales = {"guidance": THREE_WAY, "is_auto": False, "instruct_scale": instruct_scale, "image_scale": image_scale}
        return Chain(tuple(replace(a, **scales) if a.is_auto or a.is_three_way else a for a in self.applied))

    def __deepcopy__(self, memo: dict) -> Chain:
        return self
