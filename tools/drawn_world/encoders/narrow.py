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
        self.sizes = sizes
        inner = sizes.heads * sizes.head
        self.layer_norm1, self.layer_norm2 = WideNorm(sizes), WideNorm(sizes)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(sizes.channels, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, sizes.channels)
        self.fc1, self.fc2 = nn.Linear(sizes.channels, sizes.hidden), nn.Linear(sizes.hidden, sizes.channels)
        for last in (self.out_proj, self.fc2):
            nn.init.normal_(last.weight, std=0.3 / math.sqrt(last.in_features))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        read = self.layer_norm1(x)
        q, k, v = (of(read).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2) for of in self.projections)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
        x = x + self.out_proj(mixed.transpose(1, 2).flatten(2)).float()
        hidden = self.fc1(self.layer_norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden)).float()

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj


WIDE_NAMES = {name: f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
WIDE_NAMES |= {name: f"mlp.{name}" for name in ("fc1", "fc2")}


def put(weights: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Write a narrow tensor into the first rows and columns of a wide one."""
    weights[name][tuple(slice(size) for size in value.shape)] = value.to(weights[name].dtype)


def put_layer(weights: dict[str, Tensor], prefix: str, layer: Mapping[str, Tensor]) -> None:
    """Write a narrow layer's tensors, by their own names, into a wide one full of zeros."""
    for name, value in layer.items():
        module, _, kind = name.rpartition(".")
        put(weights, f"{prefix}{WIDE_NAMES.get(module, module)}.{kind}", value)
