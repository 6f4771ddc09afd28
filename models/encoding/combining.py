"""Image tokens of several references, or of several instructions, made into one set.

Axes: B references, n latents of a batch (1: the same for all), T image tokens, D width.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..guidance.branches import Branch, Branches
from ..messages import check_choice, check_length, check_numbers, shown

CONCAT, AVERAGE, PER_INDEX = "concat", "average", "one per batch index"
MODES = (CONCAT, AVERAGE, PER_INDEX)
ADD, SUBTRACT = "add", "subtract"
METHODS = (CONCAT, AVERAGE, ADD, SUBTRACT)
LONGEST_CYCLE = 1_000_000


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """The image tokens of each branch, and their weights.

    branches: [n, T, D] each. weights: [n, T], a factor on each token's values; None for 1.
    """

    branches: Branches[Tensor]
    weights: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The numbers of latents and of tokens, n and T."""
        return tuple(self.branches.full.shape[:2])

    def all_weights(self) -> Tensor:
        return torch.ones(self.shape) if self.weights is None else self.weights


def parse_numbers(text: str, name: str) -> tuple[float, ...]:
    """Read numbers between commas, semicolons or spaces. Raises ValueError, which calls the input `name`."""
    check_length(name, text)
    words = [word for word in re.split(r"[,;\s]+", text) if word]
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = (float("nan"),)
    if not all(abs(number) < float("inf") for number in numbers):
        raise ValueError(
            f"{name} was expected to be numbers such as 1, 0.5, 0.8; it is {shown(text)}. Correct it, or clear it."
        )
    return numbers


def check_weights(weights: Sequence[float], references: int, name: str, mode: str = CONCAT) -> None:
    """Raises ValueError unless there is no weight, or one for each reference, not all 0; to average, of a sum not 0."""
    if weights and len(weights) != references:
        raise ValueError(
            f"One number for each of the {references} picture(s) was expected in {name}, or none; there are "
            f"{len(weights)}. Add or remove some."
        )
    if weights and not any(weights):
        raise ValueError(f"A number other than 0 was expected in {name}; all are 0. Raise one, or bypass Apply.")
    if weights and mode == AVERAGE and abs(sum(weights)) <= 1e-6 * max(map(abs, weights)):  # rounding leaves a little
        raise ValueError(f"To average, a sum other than 0 was expected of {name}: {list(weights)}. Change one.")


def combine_references(tokens: Branches[Tensor], mode: str = CONCAT, weights: Sequence[float] = ()) -> ImageTokens:
    """Combine tokens [B, T, D] of B references into one set for a sampling run.

    concat: the tokens follow one another. average: one set of mean tokens. one per batch index: the first reference for
    the first latent of the batch, and so on. weights: one for each reference; none for 1.
    """
    check_choice("mode", mode, MODES)
    references = len(tokens.full)
    check_weights(weights, references, "the references' weights", mode)
    own = torch.tensor(weights or [1.0] * references)
    if mode == PER_INDEX:
        return ImageTokens(tokens, _or_none(own[:, None].expand(-1, tokens.full.shape[1])))
    used = own != 0
    tokens, own = tokens.map(lambda x: x[used]), own[used]
    if mode == AVERAGE:
        return ImageTokens(tokens.map(lambda x: _mean(x, own)))
    spread = own.repeat_interleave(tokens.full.shape[1])[None]
    return ImageTokens(tokens.map(lambda x: x.flatten(0, 1)[None]), _or_none(spread))


def latent_weights(tokens: ImageTokens) -> tuple[ImageTokens, tuple[float, ...]]:
    """Split off weights that are the same for all tokens of a latent: what is left, and a weight for each latent.

    Where every token of a latent counts alike, the whole attention is weighted, which is exact in every family.
    """
    weights = tokens.weights
    if weights is None or not torch.equal(weights, weights[:, :1].expand_as(weights)):
        return tokens, ()
    return ImageTokens(tokens.branches), tuple(weights[:, 0].tolist())


def product_of_cycles(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Multiply lists of factors that repeat, an empty one counting as 1. Raises ValueError for too long a cycle."""
    if not first or not second:
        return tuple(first or second)
    length = math.lcm(len(first), len(second))
    if length > LONGEST_CYCLE:
        raise ValueError(
            f"Lists of weights were expected that repeat together within {LONGEST_CYCLE:,} pictures; of {len(first):,} "
            f"and {len(second):,} weights, that takes {length:,}. Give batch_factors as many numbers as "
            "there are pictures."
        )
    return tuple(first[i % len(first)] * second[i % len(second)] for i in range(length))


def combine_two(first: ImageTokens, second: ImageTokens, method: str, weights: tuple[float, float]) -> ImageTokens:
    """Make two sets of tokens into one.

    concat: both act, each with its weight. average: between the two. add, subtract: the weighted sum, the difference.
    A weight of 0 leaves the other set as it is. Raises ValueError for sets that cannot be combined so.
    """
    check_choice("method", method, METHODS)
    check_numbers(weight_1=weights[0], weight_2=weights[1])
    check_weights(weights, 2, "weight_1 and weight_2", method)
    a, b = weights
    if not a or not b:  # what is left out need not fit
        first = second = first if a else second
    first, second = _same_latents(first, second)
    if method == CONCAT:
        return concatenate(((first, a), (second, b)))
    if first.shape != second.shape or not torch.equal(first.all_weights(), second.all_weights()):
        raise ValueError(
            f"For {method}, two embeds with as many tokens and the same weights on them were expected; they have "
            f"{first.shape[1]} and {second.shape[1]} tokens. Encode as many pictures for both, or choose concat."
        )
    if method == AVERAGE:
        a, b = a / (a + b), b / (a + b)
    elif method == SUBTRACT:
        b = -b
    summed = (_sum(x, a, second.branches[branch].to(x), b) for branch, x in first.branches.items())
    return ImageTokens(Branches(*summed), first.weights)


def concatenate(sets: Sequence[tuple[ImageTokens, float]]) -> ImageTokens:
    """Join sets for as many latents, each with its weight: tokens follow one another. A weight of 0 drops a set."""
    kept = [(tokens, weight) for tokens, weight in sets if weight]
    weights = torch.cat([tokens.all_weights() * weight for tokens, weight in kept], dim=1)
    like = kept[0][0].branches.full  # a loaded set may be on another device than one that was just encoded
    together = (torch.cat([tokens.branches[branch].to(like) for tokens, _ in kept], dim=1) for branch in Branch)
    return ImageTokens(Branches(*together), _or_none(weights))


def _same_latents(first: ImageTokens, second: ImageTokens) -> list[ImageTokens]:
    one, other = first.shape[0], second.shape[0]
    latents = max(one, other)
    if min(one, other) not in (1, latents):
        raise ValueError(
            f"Embeds for as many latents were expected, or for all alike; they are for {one} and {other}. Encode as "
            "many pictures for both."
        )
    repeated = []
    for tokens in (first, second):
        weights = None if tokens.weights is None else tokens.weights.expand(latents, -1)
        repeated.append(ImageTokens(tokens.branches.map(lambda x: x.expand(latents, -1, -1)), weights))
    return repeated


def _mean(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of tokens: [B, T, D] -> [1, T, D]. One reference is itself, bit for bit."""
    if len(tokens) == 1:
        return tokens
    factors = (weights / weights.sum()).to(tokens)
    return (tokens * factors[:, None, None]).sum(dim=0, keepdim=True)


def _sum(x: Tensor, a: float, y: Tensor, b: float) -> Tensor:
    """Return a x + b y, where a term that is 0 leaves the other as it is, bit for bit."""
    terms = [tokens if factor == 1 else tokens * factor for tokens, factor in ((x, a), (y, b)) if factor]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _or_none(weights: Tensor) -> Tensor | None:
    return None if torch.all(weights == 1) else weights
