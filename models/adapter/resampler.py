"""The resampler: learned queries that read an image under an instruction and a prompt.

Axes: B batch, N image patches, L text tokens, T image tokens, H heads, D width.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEAD_WIDTH = 64
LONGEST_NUMBER = 10  # digits
FEWEST_OF_BLOCK = 5  # tensors: a block has more


@dataclass(frozen=True)
class ResamplerSizes:
    """Everything that sets a resampler's shapes, read off a state dict of the published names."""

    tokens: int
    width: int
    heads: int
    blocks: int
    image_width: int
    text_width: int
    out_width: int
    image_ff: int
    prompt_ff: int
    instruct_ff: int

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> ResamplerSizes:
        """Read the sizes. Raises KeyError naming the first tensor that one is read off and that is missing."""
        return cls(
            tokens=state["latents"].shape[1],
            width=state["latents"].shape[2],
            heads=state["layers.0.0.to_q.weight"].shape[0] // HEAD_WIDTH,
            blocks=count_blocks(state),
            image_width=state["proj_in.weight"].shape[1],
            text_width=state["proj_new_input.weight"].shape[1],
            out_width=state["proj_out.weight"].shape[0],
            image_ff=state["layers.0.1.1.weight"].shape[0],
            prompt_ff=state["prompt_layers.0.1.1.weight"].shape[0],
            instruct_ff=state["new_input_layers.0.1.1.weight"].shape[0],
        )


def count_blocks(state: Mapping[str, Tensor], prefix: str = "layers.") -> int:
    """Return how many numbered blocks there are under a prefix; at least 1, so that a missing one is found by its name.

    Raises KeyError naming the first that is missing where the numbers go beyond what so many tensors can be of.
    """
    found = (re.match(rf"{re.escape(prefix)}([0-9]+)\.", name) for name in state)
    return highest_number({match[1] for match in found if match}, len(state) // FEWEST_OF_BLOCK, prefix) + 1


def highest_number(numbers: Collection[str], most: int, prefix: str) -> int:
    """Return the highest of the numbers that names have behind `prefix`; 0 without one. There are at most `most`.

    Raises KeyError naming the first that is missing when the highest is beyond that, or no number for a computer.
    """
    highest = max((int(number) if len(number) < LONGEST_NUMBER else most for number in numbers), default=0)
    if highest and highest >= most:
        raise KeyError(prefix + next((str(number) for number in range(most) if str(number) not in numbers), str(most)))
    return highest


class ResamplerAttention(nn.Module):
    """The attention of queries to a context and to themselves. No biases but in the norms."""

    def __init__(self, width: int, heads: int, operations: ModuleType):
        super().__init__()
        self.heads = heads
        inner = heads * HEAD_WIDTH
        self.norm1 = operations.LayerNorm(width)
        self.norm2 = operations.LayerNorm(width)
        self.to_q = operations.Linear(width, inner, bias=False)
        self.to_kv = operations.Linear(width, 2 * inner, bias=False)
        self.to_out = operations.Linear(inner, width, bias=False)

    def forward(self, context: Tensor, queries: Tensor) -> Tensor:
        context, queries = self.norm1(context), self.norm2(queries)
        keys, values = self.to_kv(torch.cat((context, queries), dim=1)).chunk(2, dim=-1)  # [B, N + T, H * 64]
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=self.heads) for x in (self.to_q(queries), keys, values))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(rearrange(out, "b h t d -> b t (h d)"))


def feed_forward(width: int, inner: int, operations: ModuleType) -> nn.Sequential:
    return nn.Sequential(
        operations.LayerNorm(width),
        operations.Linear(width, inner, bias=False),
        nn.GELU(),
        operations.Linear(inner, width, bias=False),
    )


def resampler_blocks(count: int, width: int, heads: int, ff_inner: int, operations: ModuleType) -> nn.ModuleList:
    """Return blocks of an attention and a feed-forward each."""
    return nn.ModuleList(
        nn.ModuleList([ResamplerAttention(width, heads, operations), feed_forward(width, ff_inner, operations)])
        for _ in range(count)
    )


class Resampler(nn.Module):
    """The module that makes image tokens of image features and two texts.

    `operations` supplies LayerNorm and Linear: torch.nn, or the host's layers that cast and offload.
    Parameter names are the published ones (SD3's proj_out_big and norm_out_big are renamed on reading).

    Source: arXiv 2408.03209 figure 3; unity-research/IP-Adapter-Instruct@57efbe4, the resampler.
    """

    read_sizes = ResamplerSizes.from_state_dict

    def __init__(self, sizes: ResamplerSizes, operations: ModuleType = nn):
        super().__init__()
        self.sizes = sizes
        self.latents = nn.Parameter(torch.empty(1, sizes.tokens, sizes.width))
        self.proj_in = operations.Linear(sizes.image_width, sizes.width)
        self.proj_prompt_input = operations.Linear(sizes.text_width, sizes.width)
        self.proj_new_input = operations.Linear(sizes.text_width, sizes.width)
        self.layers = self._blocks(sizes.image_ff, operations)
        self.prompt_layers = self._blocks(sizes.prompt_ff, operations)
        self.new_input_layers = self._blocks(sizes.instruct_ff, operations)
        self.proj_out = operations.Linear(sizes.width, sizes.out_width)
        self.norm_out = operations.LayerNorm(sizes.out_width)

    def _blocks(self, ff_inner: int, operations: ModuleType) -> nn.ModuleList:
        return resampler_blocks(self.sizes.blocks, self.sizes.width, self.sizes.heads, ff_inner, operations)

    def forward(self, image_features: Tensor, instruct_embeds: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Return image tokens: image_features [B, N, D_image], both embeds [B, L, D_text] -> [B, T, D_out].

        Computes in the dtype and on the device of `image_features`.
        """
        image = self.proj_in(image_features)
        instruct = self.proj_new_input(instruct_embeds)
        prompt = self.proj_prompt_input(prompt_embeds)
        queries = self.latents.to(image).expand(image.shape[0], -1, -1)
        stacks = zip(self.layers, self.prompt_layers, self.new_input_layers, strict=True)
        for blocks in cast(Iterable[tuple[nn.ModuleList, ...]], stacks):
            for (attention, ff), context in zip(blocks, (image, prompt, instruct), strict=True):
                queries = queries + attention(context, queries)
                queries = queries + ff(queries)
        return self.norm_out(self.proj_out(queries))
