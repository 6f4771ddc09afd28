"""A narrow transformer that is trained alone and then lies inside a wide one, which computes exactly the same.

Channels, heads and hidden units that the narrow one does not have are zeros in the wide one. Only layer norms notice:
theirs is the wide one's, over all its channels.

B rows, L tokens, C narrow channels, D wide ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
ENCODER = "encoder."  # the encoder, in a file that has linear maps beside it


@dataclass(frozen=True)
class Sizes:
    """channels, heads and hidden units that are used; width of the wide one, and of each of its heads."""

    channels: int
    heads: int
    hidden: int
    width: int
    head: int


class WideNorm(nn.Module):
    """The wide transformer's layer norm, of which the narrow channels are kept."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.width = sizes.width
        self.weight, self.bias = nn.Parameter(torch.ones(sizes.channels)), nn.Parameter(torch.zeros(sizes.channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        mean = x.sum(-1, keepdim=True) / self.width
        spread = x.square().sum(-1, keepdim=True) / self.width - mean.square()
        return (x - mean) * (spread + EPSILON).rsqrt() * self.weight + self.bias


class Layer(nn.Module):
    """One layer of CLIP-L's transformer, in its names."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head
        self.layer_norm1, self.layer_norm2 = WideNorm(sizes), WideNorm(sizes)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(sizes.channels, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, sizes.channels)
        self.fc1, self.fc2 = nn.Linear(sizes.channels, sizes.hidden), nn.Linear(sizes.hidden, sizes.channels)
        for last in (self.out_proj, self.fc2):
            nn.init.normal_(last.weight, std=0.3 / math.sqrt(last.in_features))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.layer_norm1(x)
        projected = (projection(normed) for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        x = x + self.out_proj(attended.transpose(1, 2).flatten(2)).float()
        hidden = self.fc1(self.layer_norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden)).float()


def encoder_of(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's weights, without the linear maps that were trained beside it."""
    return {name.removeprefix(ENCODER): part for name, part in parts.items() if name.startswith(ENCODER)}


def put(wide: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Write a narrow tensor into the first rows and columns of a wide one."""
    wide[name][tuple(slice(size) for size in value.shape)] = value.to(wide[name].dtype)


def put_linear(wide: dict[str, Tensor], prefix: str, narrow: Mapping[str, Tensor], own: str, *names: str) -> None:
    """Write some of a narrow layer's linear maps, weights and biases, into a wide layer of CLIP's."""
    for name in names:
        inside = "mlp" if name in ("fc1", "fc2") else "self_attn"
        for kind in ("weight", "bias"):
            put(wide, f"{prefix}{inside}.{name}.{kind}", narrow[f"{own}{name}.{kind}"])
