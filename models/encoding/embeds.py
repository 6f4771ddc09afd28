"""The embeds that Encode hands to Apply: image tokens of a reference, and embeds that change while sampling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..guidance.branches import Branches
from ..messages import check_numbers
from .combining import ImageTokens, combine_two
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

    def get_models(self) -> list:
        return self.adapter.get_models()

    @property
    def tokens(self) -> ImageTokens:
        return ImageTokens(self.image_tokens, self.token_weights)

    @classmethod
    def of(cls, adapter: LoadedAdapter, instruction: str, tokens: ImageTokens) -> "InstructEmbeds":
        return cls(adapter, instruction, tokens.branches, tokens.weights)


@dataclass(frozen=True)
class Keyframe:
    """Embeds, and the fractions of the sampling schedule from which and to which they act."""

    embeds: InstructEmbeds
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class TimedEmbeds(HoldsModels):
    """A row of keyframes by rising start, each ending where the next begins."""

    keyframes: tuple[Keyframe, ...]

    def get_models(self) -> list:
        return [model for keyframe in self.keyframes for model in keyframe.embeds.get_models()]


def combine_embeds(
    first: InstructEmbeds, second: InstructEmbeds, method: str, weights: tuple[float, float]
) -> InstructEmbeds:
    """Combine two encoded references into one. Raises ValueError when they cannot be; see `combine_two`."""
    check_untimed(first, second)
    check_one_adapter(first.adapter, second.adapter)
    tokens = combine_two(first.tokens, second.tokens, method, weights)
    instruction = joined_instructions((first.instruction, second.instruction), weights)
    return InstructEmbeds.of(first.adapter, instruction, tokens)


def switch_embeds(
    first: InstructEmbeds | TimedEmbeds,
    second: InstructEmbeds | TimedEmbeds,
    at: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> TimedEmbeds:
    """Return `first` until the fraction `at`, and `second` from then on, as far as each has a keyframe there.

    weights: a factor on the tokens of each. Raises ValueError for numbers that are none.
    """
    check_numbers(0.0, 1.0, at_percent=at)
    check_numbers(weight_1=weights[0], weight_2=weights[1])
    return TimedEmbeds((*_between(first, 0.0, at, weights[0]), *_between(second, at, 1.0, weights[1])))


def check_one_adapter(first: LoadedAdapter, second: LoadedAdapter) -> None:
    """Raises ValueError unless both are the same adapter, with the same strength of its LoRA."""
    if first is second:
        return
    if first.fingerprint != second.fingerprint:
        raise ValueError(
            f"Embeds of one adapter were expected; they are of {first.name} and {second.name}. Encode both with the "
            "same adapter, or give each an Apply of its own."
        )
    if first.lora and first.lora_strength != second.lora_strength:
        raise ValueError(
            f"Embeds of one adapter were expected; their lora_strength is {first.lora_strength:g} and "
            f"{second.lora_strength:g}. Encode both with one Load IPAdapter-Instruct."
        )


def joined_instructions(instructions: Sequence[str], weights: Sequence[float]) -> str:
    """Return the instructions that act, in which `auto` looks for the words it knows."""
    return "; ".join(dict.fromkeys(text for text, weight in zip(instructions, weights, strict=True) if weight))


def keyframes_of(embeds: InstructEmbeds | TimedEmbeds) -> tuple[Keyframe, ...]:
    return embeds.keyframes if isinstance(embeds, TimedEmbeds) else (Keyframe(embeds),)


def check_untimed(*all_embeds: InstructEmbeds | TimedEmbeds) -> None:
    """Raises ValueError for embeds that change while sampling, where one set of tokens is needed."""
    if any(isinstance(embeds, TimedEmbeds) for embeds in all_embeds):
        raise ValueError(
            "Embeds of one moment were expected; these change while sampling (method then). Put the Combine Instruct "
            "Embeds with method then behind this node, right before Apply IPAdapter-Instruct."
        )


def _between(embeds: InstructEmbeds | TimedEmbeds, start: float, end: float, weight: float) -> list[Keyframe]:
    keyframes = []
    for one in keyframes_of(embeds):
        part = one.embeds
        if weight != 1:
            part = replace(part, token_weights=part.tokens.all_weights() * weight)
        keyframes.append(Keyframe(part, max(one.start, start), min(one.end, end)))
    return [one for one in keyframes if one.start < one.end]
