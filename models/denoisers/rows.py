"""The rows of one model call, and what a site asks of an adapter that acts in it.

Axes: R rows of a batch (chunks x latents), C chunks, b latents of a chunk, F masks, N image
positions, L text tokens, T image tokens, D width.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounded_cache import RunCache
from ..guidance.branches import Branch
from .model_view import SiteKey

MOST_CACHED = 256  # 0.3 MB each for masks of 16 frames of 4,096 positions in two chunks, fp16

Area = tuple[int, int, int, int] | None
"""The part of the latent a conditioning covers, as (height, width, top, left); None for all of it."""


@dataclass(frozen=True, eq=False)
class Attention:
    """One attention to image tokens, before the adapter's weight and mask.

    queries [R, N, D] of image positions on a `grid` of height and width; keys [C or R, T, D] of the image tokens;
    others [R, L, D]: the keys of what else there is to look at. texts: for each chunk the id of the condition whose
    text that is; None where it is not text.

    An MMDiT's adapter has one softmax over both. A UNet's has one over the image tokens alone, which always gives
    them everything, beside the text's own; in one softmax over both the two can be compared.
    """

    queries: Tensor
    keys: Tensor
    others: Tensor
    heads: int
    grid: tuple[int, int]
    texts: Sequence[UUID] | None = None


class Observer(Protocol):
    """Sees the attention of a model call. It changes nothing."""

    def see(self, adapter: "SiteAdapter", site: SiteKey, rows: "BatchRows", attention: Attention) -> None: ...


@dataclass(frozen=True)
class BatchRows:
    """The chunks of one model call: a branch and an area for each, of a latent of `latent_size`.

    input_size: height and width of what the call is for, which is smaller for an area.
    batch_indices: which latents of the whole batch each chunk holds.
    reached: the sites that the call has come to by now; None where nobody asks, as a compiled model would for each.
    observer: sees the call's attention, if there is one.
    """

    branches: tuple[Branch, ...]
    areas: tuple[Area, ...]
    latent_size: tuple[int, int]
    input_size: tuple[int, int]
    batch_indices: tuple[int, ...]
    reached: set[SiteKey] | None = field(default=None, compare=False)
    observer: Observer | None = field(default=None, compare=False)

    def note(self, site: SiteKey) -> None:
        """Note that the call has come to a site."""
        if self.reached is not None:
            self.reached.add(site)


class SiteMasks:
    """One mask [F, H, W], for F latents in turn, brought to the resolution of each site when first asked for.

    Sizes are averaged over, so that masks which tile the plane still do so at every resolution.
    """

    def __init__(self, mask: Tensor):
        self._mask = mask
        # Windows of frames that move from step to step ask for ever new ones.
        self._cached: RunCache[Tensor] = RunCache(MOST_CACHED)

    def __len__(self) -> int:
        """Return the number of latents that have a mask of their own, from the first on again; 1: all have the same."""
        return len(self._mask)

    def at(self, size: tuple[int, int], rows: BatchRows, like: Tensor) -> Tensor:
        """Return factors [R, N, 1] for a call's rows, at a site of this height and width."""
        key = (size, rows.latent_size, rows.areas, rows.batch_indices, like.device, like.dtype)
        return self._cached.get(key, lambda: torch.cat([self._chunk(size, rows, area) for area in rows.areas]).to(like))

    def _chunk(self, size: tuple[int, int], rows: BatchRows, area: Area) -> Tensor:
        mask = self._mask[[batch_index % len(self) for batch_index in rows.batch_indices]].unsqueeze(1)
        if area is not None:
            height, width, top, left = area
            mask = F.interpolate(mask, size=rows.latent_size, mode="area")
            mask = mask[..., top : top + height, left : left + width]
        mask = F.interpolate(mask, size=size, mode="area")  # [b, 1, h, w]
        return mask.flatten(2).transpose(1, 2)


class SiteAdapter(Protocol):
    """An adapter at one step, as the patches at its sites ask for it. scaling: one of `SCALINGS`."""

    @property
    def sites(self) -> Collection[SiteKey]:
        """The sites where the adapter acts."""
        ...

    @property
    def masks(self) -> SiteMasks | None:
        """The mask that tells where in the image the adapter acts; None for everywhere."""
        ...

    @property
    def scaling(self) -> str: ...

    def is_on_negative(self, site: SiteKey) -> bool:
        """True when the adapter acts on the negative there, instead of on the positive."""
        ...

    def keys_values(self, site: SiteKey, rows: BatchRows, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a site attends to, each [C, T, D]; [R, T, D] where latents have tokens of their own."""
        ...

    def weight(self, site: SiteKey, rows: BatchRows, like: Tensor) -> float | Tensor:
        """Return how strongly the adapter acts: one number, or [R, 1, 1] where rows have weights of their own."""
        ...

    def stream_layers(self, site: SiteKey, like: Tensor) -> Any:
        """Return what has an MMDiT adapter's four layers for the streams at a site: a module, or copies."""
        ...
