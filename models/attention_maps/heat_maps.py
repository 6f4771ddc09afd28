"""The attention that a reference gets, place by place, and such maps as images.

Axes: B rows, N positions, L other tokens, T image tokens, D width, h and w a map's height and width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

LARGEST_SIDE = 64  # of a map that is kept
AT_ONCE = 2**24  # attention weights, 64 MB
EACH_MAP, ALL_ALIKE = "each map", "all alike"
SCALES = (EACH_MAP, ALL_ALIKE)

# Source: matplotlib@07d25f3c, lib/matplotlib/_cm_listed.py: every 17th of the 256 colours of `inferno` (CC0).
INFERNO = (
    (0.001462, 0.000466, 0.013866),
    (0.046915, 0.030324, 0.150164),
    (0.142378, 0.046242, 0.308553),
    (0.258234, 0.038571, 0.406485),
    (0.366529, 0.071579, 0.431994),
    (0.472328, 0.110547, 0.428334),
    (0.578304, 0.148039, 0.404411),
    (0.682656, 0.189501, 0.360757),
    (0.780517, 0.243327, 0.299523),
    (0.865006, 0.316822, 0.226055),
    (0.929644, 0.411479, 0.145367),
    (0.970919, 0.522853, 0.058367),
    (0.987622, 0.645320, 0.039886),
    (0.978806, 0.774545, 0.176037),
    (0.950018, 0.903409, 0.380271),
    (0.988362, 0.998364, 0.644924),
)

Size = tuple[int, int]


def attention_to(queries: Tensor, keys: Tensor, others: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Return how queries [B, N, D] share attention between image tokens and others, mean over the heads, float32.

    keys: the image tokens', [B or 1, T, D]. others: those of whatever else the queries may look at, [B, L, D].
    Gives the image tokens' share of one softmax over both, [B, N], and the softmax over the image tokens alone,
    [B, T, N]. A few positions at a time, so that no whole attention matrix of a large image is held.

    Source: arXiv 1706.03762 equation 1, whose softmax this is.
    """
    queries, keys, others = (rearrange(x.float(), "b n (h d) -> b h n d", h=heads) for x in (queries, keys, others))
    queries = queries / math.sqrt(queries.shape[-1])
    a_position = len(queries) * heads * (keys.shape[2] + others.shape[2])
    shares, tokens = [], []
    for part in queries.split(max(AT_ONCE // a_position, 1), dim=2):
        logits, other_logits = (part @ x.transpose(-1, -2) for x in (keys, others))  # [B, heads, N, T or L]
        shares.append(torch.sigmoid(logits.logsumexp(-1) - other_logits.logsumexp(-1)).mean(dim=1))
        tokens.append(logits.softmax(dim=-1).mean(dim=1).transpose(1, 2))
    return torch.cat(shares, dim=1), torch.cat(tokens, dim=2)


@dataclass(frozen=True, eq=False)
class Mean:
    """A mean of maps that grows by `+`: their sum [..., h, w], and how often each place is covered."""

    total: Tensor
    coverage: Tensor

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.coverage + other.coverage)

    def __getitem__(self, place) -> "Mean":
        return Mean(self.total[place], self.coverage[place])

    @property
    def value(self) -> Tensor:
        """The mean at each place; 0 where nothing is covered."""
        return torch.where(self.coverage > 0, self.total / self.coverage, 0.0)

    def as_one(self) -> "Mean":
        """Return the mean as a single map, which covers wherever a part of it does."""
        return Mean(self.value, (self.coverage > 0).float())

    def to(self, device: torch.device | str) -> "Mean":
        return Mean(self.total.to(device), self.coverage.to(device))


def kept_size(size: Size) -> Size:
    """Return the size at which maps of a latent are kept: its own, or its proportions with LARGEST_SIDE."""
    factor = max(max(size) / LARGEST_SIDE, 1)
    height, width = (max(round(side / factor), 1) for side in size)
    return height, width


def placed(maps: Tensor, area: tuple[int, int, int, int] | None, latent_size: Size) -> Mean:
    """Put maps [B, C, h, w] of an area (height, width, top, left) of the latent, or of all of it, at the kept size.

    Sizes are averaged over; outside of the area nothing is covered.
    """
    covered = torch.ones_like(maps[:, :1])
    if area is not None:
        height, width, top, left = area
        sides = (left, latent_size[1] - left - width, top, latent_size[0] - top - height)
        maps, covered = (F.pad(F.interpolate(x, (height, width), mode="area"), sides) for x in (maps, covered))
    return Mean(*(F.interpolate(x, size=kept_size(latent_size), mode="area") for x in (maps, covered)))


# Images


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge maps [B, h, w] to [B, H, W], with smooth transitions; values stay between the least and the largest."""
    return F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", antialias=True).squeeze(1)


def normalised(maps: Tensor, scale: str) -> Tensor:
    """Scale maps [B, h, w], from 0 on, to 0..1, where 1 is the largest of each map, or of all; zeros stay zeros."""
    dims = (-2, -1) if scale == EACH_MAP else tuple(range(maps.ndim))
    largest = maps.amax(dim=dims, keepdim=True)
    return maps / torch.where(largest > 0, largest, 1.0)


def coloured(maps: Tensor) -> Tensor:
    """Colour maps [...] in 0..1, [..., 3]: black over violet and orange to light yellow, as bright as the value."""
    colours = maps.new_tensor(INFERNO)
    place = maps.clamp(0, 1) * (len(colours) - 1)
    before = place.floor().long().clamp(max=len(colours) - 2)
    return torch.lerp(colours[before], colours[before + 1], (place - before).unsqueeze(-1))


def overlaid(images: Tensor, maps: Tensor, opacity: float) -> Tensor:
    """Return images [B, H, W, 3] under the colours of maps [B, h, w] in 0..1; opacity 1 hides the images."""
    return torch.lerp(images, coloured(enlarged(maps, images.shape[1:3])), opacity)
