"""IPAdapter-Instruct's image projection, the resampler, whose queries read an image, an instruction and a prompt.

Axes: B batch, N image patches, L text tokens, T image tokens, H heads, D width.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEAD_WIDTH = 64
LONGEST_NUMBER = 10  # digits
FEWEST_OF_BLOCK = 5  # tensors: a block has more


@dataclass(frozen=True)
class ProjectionSizes:
    """The sizes that set the shapes of an image projection; one that it does not have is 0.

    image_width: of what is read of an image. face_width: of a face embedding. inner: of the hidden layer.
    width, heads, blocks, image_ff: of the resampler. text_width, prompt_ff, instruct_ff: of what reads texts in it.
    """

    tokens: int
    out_width: int
    image_width: int = 0
    face_width: int = 0
    inner: int = 0
    width: int = 0
    heads: int = 0
    blocks: int = 0
    image_ff: int = 0
    text_width: int = 0
    prompt_ff: int = 0
    instruct_ff: int = 0


class Projection(nn.Module):
    """An image projection: what makes image tokens. Parameter names are the published ones.

    `read_sizes` of each reads its sizes off a file's tensors; KeyError names the first that is missing.
    `operations` supplies LayerNorm and Linear: torch.nn, or the host's layers that cast and offload.
    """

    def __init__(self, sizes: ProjectionSizes):
        super().__init__()
        self.sizes = sizes


def query_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
    """Return the sizes of learned queries and of the layers by which they read an image."""
    _, tokens, width = state["latents"].shape
    image_width, out_width = state["proj_in.weight"].shape[1], state["proj_out.weight"].shape[0]
    return ProjectionSizes(tokens, out_width, image_width, width=width, **block_sizes(state))


def block_sizes(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, int]:
    """Return the heads, the number and the inner width of the blocks that read an image."""
    layers = f"{prefix}layers."
    return {
        "heads": state[f"{layers}0.0.to_q.weight"].shape[0] // HEAD_WIDTH,
        "blocks": count_blocks(state, layers),
        "image_ff": state[f"{layers}0.1.1.weight"].shape[0],
    }


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


class ResamplerBlock(nn.ModuleList):
    """An attention and a feed-forward, each added to the queries."""

    def __init__(self, width: int, heads: int, ff_inner: int, operations: ModuleType):
        feed_forward = nn.Sequential(
            operations.LayerNorm(width),
            operations.Linear(width, ff_inner, bias=False),
            nn.GELU(),
            operations.Linear(ff_inner, width, bias=False),
        )
        super().__init__([ResamplerAttention(width, heads, operations), feed_forward])

    def forward(self, context: Tensor, queries: Tensor) -> Tensor:
        attention, feed_forward = self
        queries = queries + attention(context, queries)
        return queries + feed_forward(queries)


def resampler_blocks(sizes: ProjectionSizes, ff_inner: int, operations: ModuleType) -> nn.ModuleList:
    return nn.ModuleList(ResamplerBlock(sizes.width, sizes.heads, ff_inner, operations) for _ in range(sizes.blocks))


class Resampler(Projection):
    """The module that makes image tokens of image features and two texts.

    SD3's proj_out_big and norm_out_big are renamed on reading.

    Source: arXiv 2408.03209 figure 3; unity-research/IP-Adapter-Instruct@57efbe4, the resampler.
    """

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes)
        self.latents = nn.Parameter(torch.empty(1, sizes.tokens, sizes.width))
        self.proj_in = operations.Linear(sizes.image_width, sizes.width)
        self.proj_prompt_input = operations.Linear(sizes.text_width, sizes.width)
        self.proj_new_input = operations.Linear(sizes.text_width, sizes.width)
        self.layers = resampler_blocks(sizes, sizes.image_ff, operations)
        self.prompt_layers = resampler_blocks(sizes, sizes.prompt_ff, operations)
        self.new_input_layers = resampler_blocks(sizes, sizes.instruct_ff, operations)
        self.proj_out = operations.Linear(sizes.width, sizes.out_width)
        self.norm_out = operations.LayerNorm(sizes.out_width)

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        return replace(
            query_sizes(state),
            text_width=state["proj_new_input.weight"].shape[1],
            prompt_ff=state["prompt_layers.0.1.1.weight"].shape[0],
            instruct_ff=state["new_input_layers.0.1.1.weight"].shape[0],
        )

    def forward(self, image_features: Tensor, instruct_embeds: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Return image tokens: image_features [B, N, D_image], both embeds [B, L, D_text] -> [B, T, D_out].

        Computes in the dtype and on the device of `image_features`.
        """
        image = self.proj_in(image_features)
        instruct = self.proj_new_input(instruct_embeds)
        prompt = self.proj_prompt_input(prompt_embeds)
        queries = self.latents.to(image).expand(image.shape[0], -1, -1)
        for blocks in zip(self.layers, self.prompt_layers, self.new_input_layers, strict=True):
            for block, context in zip(blocks, (image, prompt, instruct), strict=True):
                queries = block(context, queries)
        return self.norm_out(self.proj_out(queries))
