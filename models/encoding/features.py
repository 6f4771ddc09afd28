"""The features of references, which adapters read.

Axes: B references, N image patches and class token, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class Features:
    """The features of references that are known; None for those that nothing asked for.

    hidden_states: an image encoder's before its last layer, [B, N, D]. image_embeds: its projected embedding of each
    image, [B, D]. face: a face embedding each, [B, D].
    """

    hidden_states: Tensor | None = None
    image_embeds: Tensor | None = None
    face: Tensor | None = None

    @property
    def rows(self) -> int:
        """The number of references."""
        return next(len(part) for part in vars(self).values() if part is not None)

    def split(self, size: int) -> "list[Features]":
        """Return batches of at most `size` references."""
        parts = {name: part.split(size) for name, part in vars(self).items() if part is not None}
        return [Features(**dict(zip(parts, one, strict=True))) for one in zip(*parts.values(), strict=True)]


def stacked(batches: Sequence[Batch]) -> Batch:
    """Join batches of which the same is known, one after another: dataclasses of tensors, such as features."""
    known = [name for name, part in vars(batches[0]).items() if part is not None]
    return type(batches[0])(**{name: torch.cat([getattr(one, name) for one in batches]) for name in known})
