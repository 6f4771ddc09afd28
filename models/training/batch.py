"""The pairs that an adapter learns from at one step.

Axes: B pairs, N image patches and class token, L text tokens, M text tokens of the denoiser, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, cast

import torch
from torch import Tensor

from .recipe import Recipe


@dataclass(frozen=True, eq=False)
class Seen:
    """All that the adapter and the denoiser are told of B pairs.

    image_states: of the reference, [B, N, D]. instruct_states, prompt_states: the resampler's texts, [B, L, D].
    context: the denoiser's own text tokens, [B, M, D]; pooled: its pooled text, [B, D], None where it takes none.
    """

    image_states: Tensor
    instruct_states: Tensor
    prompt_states: Tensor
    context: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_states)

    def to(self, device: torch.device) -> Seen:
        """Return it on a device in float32, in which the resampler computes, as when it samples."""
        return Seen.of(None if part is None else part.to(device, torch.float32) for part in self.parts())

    def parts(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, part.name) for part in fields(self))

    @classmethod
    def of(cls, parts: Iterable[Tensor | None]) -> Seen:
        """Return the one that has these parts, of which only the last may be None."""
        return cls(*cast(Iterable[Tensor], parts))


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of pairs: latents of the targets, [B, C, h, w] as the denoiser has them, and what is told of each."""

    latents: Tensor
    seen: Seen

    def to(self, device: torch.device) -> Batch:
        """Return it on a device in float32."""
        return Batch(self.latents.to(device, torch.float32), self.seen.to(device))


class Lessons(Protocol):
    """A source of batches.

    blank: what is told when all is dropped: a zero image and empty texts, one row. instructions: all that are taught.
    """

    @property
    def blank(self) -> Seen: ...

    @property
    def instructions(self) -> Iterable[str]: ...

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        """Return `count` examples, drawn by the generator alone. Their tensors are nobody else's."""
        ...


def with_dropped(seen: Seen, blank: Seen, recipe: Recipe, generator: torch.Generator) -> Seen:
    """Drop the texts of some of the pairs, the picture of some, and both of some. Written in place.

    Texts are the prompt, for the resampler and the denoiser, and the instruction.
    """
    drawn = torch.rand(len(seen), generator=generator)
    both = drawn < recipe.drop_both
    text = both | ((drawn >= recipe.drop_both) & (drawn < recipe.drop_both + recipe.drop_text))
    image = both | ((drawn >= recipe.drop_both + recipe.drop_text) & (drawn < recipe.dropped))
    context, nothing = as_long(seen.context, blank.context)
    _put(seen.image_states, blank.image_states, image)
    _put(seen.instruct_states, blank.instruct_states, text)
    _put(seen.prompt_states, blank.prompt_states, text)
    _put(context, nothing, text)
    if seen.pooled is not None:
        _put(seen.pooled, cast(Tensor, blank.pooled), text)
    return replace(seen, context=context)


def as_long(*contexts: Tensor) -> list[Tensor]:
    """Repeat text tokens until all are equally many, which attention does not notice; as the host batches them."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]


def stacked(seen: Sequence[Seen]) -> Seen:
    """Stack pairs, one after another."""
    contexts = as_long(*(one.context for one in seen))
    seen = [replace(one, context=context) for one, context in zip(seen, contexts, strict=True)]
    columns = zip(*(one.parts() for one in seen), strict=True)
    return Seen.of(None if column[0] is None else torch.cat(column) for column in columns)


def _put(rows: Tensor, blank: Tensor, where: Tensor) -> None:
    if where.any():
        rows[where.to(rows.device)] = blank.to(rows)
