"""The chain that a model carries: the embeds applied to it, in order. Immutable, shared by all its clones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..denoisers.model_view import SiteKey
from ..encoding.combining import ImageTokens, latent_weights, product_of_cycles
from ..encoding.embeds import Keyframe
from ..encoding.loaded_adapter import LoadedAdapter
from ..guidance.layer_weights import LayerFactor, LayerWeights
from ..guidance.tasks import AUTO, THREE_WAY
from ..guidance.weight_schedule import Schedule

CHAIN = "ipadapter_instruct"
EVERYWHERE = LayerWeights()
STEADY = Schedule()


@dataclass(frozen=True)
class ApplySettings:
    """The settings of the Apply node. guidance: "auto", "simple" or "three-way".

    schedule: factors on the weight over the sampling and the batch. layers: and in each of the model's attentions.
    """

    weight: float = 0.8
    guidance: str = AUTO
    instruct_scale: float = 2.0
    image_scale: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    schedule: Schedule = STEADY
    layers: LayerWeights = EVERYWHERE


@dataclass(frozen=True, eq=False)
class Applied:
    """One Apply: whose tokens, how strongly, when and where.

    keyframe: the embeds, and when they act. settings: as the user set them. weight, guidance: what `auto` made of
    them. layers: the factor at each of the adapter's sites, in its order. mask: [F, H, W] in 0..1, one for each latent.
    """

    keyframe: Keyframe
    settings: ApplySettings
    weight: float
    guidance: str
    layers: Mapping[SiteKey, LayerFactor]
    mask: Tensor | None = None

    @property
    def adapter(self) -> LoadedAdapter:
        return self.keyframe.embeds.adapter

    @property
    def instruction(self) -> str:
        return self.keyframe.embeds.instruction

    @property
    def start_percent(self) -> float:
        """The fraction of the sampling schedule from which on it acts."""
        return max(self.settings.start_percent, self.keyframe.start)

    @property
    def end_percent(self) -> float:
        """The fraction up to which it acts."""
        return min(self.settings.end_percent, self.keyframe.end)

    @property
    def end_is_exclusive(self) -> bool:
        """True when the next keyframe takes over at its end."""
        return self.end_percent == self.keyframe.end < 1.0

    @cached_property
    def _tokens_and_weights(self) -> tuple[ImageTokens, tuple[float, ...]]:
        return latent_weights(self.keyframe.embeds.tokens)

    @property
    def tokens(self) -> ImageTokens:
        """The image tokens [n, T, context width] for each branch, the same for all latents (n = 1) or one for each."""
        return self._tokens_and_weights[0]

    @cached_property
    def batch_weights(self) -> tuple[float, ...]:
        """One factor for each latent, from the first on again when they are fewer; (1,) for none."""
        return product_of_cycles(self.settings.schedule.batch_factors, self._tokens_and_weights[1]) or (1.0,)

    @property
    def is_auto(self) -> bool:
        """True when the pack has chosen the guidance."""
        return self.settings.guidance == AUTO and self.adapter.kind.takes_instruction

    @property
    def is_three_way(self) -> bool:
        return self.guidance == THREE_WAY

    @property
    def lora_strength(self) -> float:
        """The strength at which this Apply or one before added the adapter's LoRA to the model; 0 for not at all."""
        return self.adapter.lora_strength if self.adapter.lora and self.weight else 0.0

    @property
    def acting_sites(self) -> tuple[SiteKey, ...]:
        """The sites where it has any weight."""
        return tuple(key for key, layer in self.layers.items() if self.weight * layer.factor)


class Shared:
    """A part of a model's options that all clones have in common, though the host deep-copies them at every clone."""

    def __deepcopy__(self, memo: dict):
        return self


@dataclass(frozen=True, eq=False)
class Chain(Shared):
    """The Applies of one model."""

    applied: tuple[Applied, ...] = ()

    def then(self, *applied: Applied) -> "Chain":
        return Chain((*self.applied, *applied))
