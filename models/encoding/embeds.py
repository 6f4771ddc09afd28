"""The embeds that Encode hands to Apply: image tokens of a reference, and embeds that take turns while sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..guidance.branches import Branches
from ..messages import check_numbers
from ..reference.combining import ImageTokens
from .held_models import HoldsModels
from .loaded_adapter import LoadedAdapter


@dataclass(frozen=True, eq=False)
class InstructEmbeds(HoldsModels):
    """The embeds that one Apply makes a model follow.

    image_tokens: [n, T, context width] for each branch; n is 1 for all latents of a batch alike, else one for each.
    token_weights: [n, T], a factor on each token's values in the attention; None for 1.
    """

    adapter: LoadedAdapter
    instruction: str
    image_tokens: Branches[Tensor]
    token_weights: Tensor | None = None

    @property
    def patcher(self):
        return self.adapter.patcher

    def get_models(self) -> list:
        return self.adapter.get_models()

    @property
    def tokens(self) -> ImageTokens:
        return ImageTokens(self.image_tokens, self.token_weights)

    @classmethod
    def of(cls, adapter: LoadedAdapter, instruction: str, tokens: ImageTokens) -> InstructEmbeds:
        return cls(adapter, instruction, tokens.branches, tokens.weights)


@dataclass(frozen=True)
class Turn:
    """A turn of embeds, and the fractions of the sampling schedule from which and to which they act."""

    embeds: InstructEmbeds
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class TimedEmbeds(HoldsModels):
    """A row of turns by rising start, each ending where the next begins."""

    turns: tuple[Turn, ...]

    @property
    def patcher(self):
        return self.turns[0].embeds.patcher

    def get_models(self) -> list:
        return [model for turn in self.turns for model in turn.embeds.get_models()]


def take_turns(first: InstructEmbeds | TimedEmbeds, second: InstructEmbeds | TimedEmbeds, at: float) -> TimedEmbeds:
    """Return `first` until the fraction `at`, and `second` from then on, as far as each has a turn there."""
    check_numbers(0.0, 1.0, at_percent=at)
    return TimedEmbeds((*_between(first, 0.0, at), *_between(second, at, 1.0)))


def turns_of(embeds: InstructEmbeds | TimedEmbeds) -> tuple[Turn, ...]:
    return embeds.turns if isinstance(embeds, TimedEmbeds) else (Turn(embeds),)


def check_untimed(*all_embeds: InstructEmbeds | TimedEmbeds) -> None:
    """Raises ValueError for embeds that take turns, where one set of tokens is needed."""
    if any(isinstance(embeds, TimedEmbeds) for embeds in all_embeds):
        raise ValueError(
            "Embeds of one moment were expected; these change while sampling (Then). Put Then behind this node, right "
            "before Apply IPAdapter-Instruct."
        )


def _between(embeds: InstructEmbeds | TimedEmbeds, start: float, end: float) -> list[Turn]:
    cut = [Turn(turn.embeds, max(turn.start, start), min(turn.end, end)) for turn in turns_of(embeds)]
    return [turn for turn in cut if turn.start < turn.end]
