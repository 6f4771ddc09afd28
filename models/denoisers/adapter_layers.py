"""The layers that an adapter brings into the attentions of a denoiser, as its file has them.

For a UNet: one pair of projections, from image tokens to keys and values, for each site. For an MMDiT: layers for every
second joint block, of which some make keys and values of image tokens, others act on the block's own image and text
streams.

Axes: B batch, T image tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType

from torch import Size, Tensor, nn

KEYS, VALUES = "to_k_ip", "to_v_ip"
TOKEN_LAYERS = ("add_k_proj_ip", "add_v_proj_ip", "proj_encoder_passthrough_ip")
STREAM_LAYERS = ("to_k_ip", "to_v_ip", "proj_ip", "proj_encoder_hidden_states_ip")


def site_widths(state: Mapping[str, Tensor]) -> tuple[dict[int, int], int]:
    """Return each site's width by its number, and the context width, read off NUMBER.to_k_ip.weight and the like.

    A site whose keys or values are missing counts too, so that the gap is found. Raises KeyError when there is none.
    """
    shapes = layer_shapes(state, (KEYS, VALUES), f"1.{KEYS}")
    return {number: shape[0] for number, shape in shapes.items()}, next(iter(shapes.values()))[1]


def block_widths(state: Mapping[str, Tensor]) -> dict[int, int]:
    """Return each block's width by number, read off NUMBER.to_k_ip.weight and the like. Raises KeyError without any."""
    shapes = layer_shapes(state, TOKEN_LAYERS + STREAM_LAYERS, "0.to_k_ip")
    return {number: shape[0] for number, shape in shapes.items()}


def layer_shapes(state: Mapping[str, Tensor], layers: Sequence[str], first: str) -> dict[int, Size]:
    """Return by number the shape of one of its layers, read off NUMBER.LAYER.weight, in the order of the numbers.

    Raises KeyError, which names the `first` layer, when there is none.
    """
    pattern = re.compile(rf"(\d+)\.({'|'.join(layers)})\.weight")
    found = {int(match[1]): weight.shape for name, weight in state.items() if (match := pattern.fullmatch(name))}
    if not found:
        raise KeyError(f"{first}.weight")
    return dict(sorted(found.items()))


class NumberedLayers(nn.Module):
    """Linear layers without bias for each site, called `layers`, under the numbers that files give the sites.

    widths: what a site's layers give. in_width: what they take; None for as much.
    """

    layers: tuple[str, ...]

    def __init__(self, widths: Mapping[int, int], in_width: int | None = None, operations: ModuleType = nn):
        super().__init__()
        self.widths = tuple(width for _, width in sorted(widths.items()))
        for number, width in sorted(widths.items()):
            site = nn.Module()
            for name in self.layers:
                site.add_module(name, operations.Linear(width if in_width is None else in_width, width, bias=False))
            self.add_module(str(number), site)


class SiteProjections(NumberedLayers):
    """The layers to_k_ip and to_v_ip of every cross-attention site, under the published numbers 1, 3, 5 ...

    A site's number is 2 i + 1 for the i-th cross-attention in diffusers' order: down blocks, up blocks,
    then the middle block. Iteration and `forward` keep that order.
    """

    layers = (KEYS, VALUES)

    def forward(self, image_tokens: Tensor, wanted: Collection[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each site keys and values: image_tokens [B, T, context_width] -> [B, T, site width].

        wanted: the places, from 0, of the sites that are asked for; None for all.
        """
        for place, site in enumerate(self.children()):
            if wanted is None or place in wanted:
                yield getattr(site, KEYS)(image_tokens), getattr(site, VALUES)(image_tokens)


class TokenProjections(NumberedLayers):
    """Square layers that turn image tokens into keys and values, block after block, under the numbers 0, 2, 4 ...

    These depend on the tokens alone, never on the step.
    Source: unity-research/IP-Adapter-Instruct@57efbe4, the SD3 attention processor.
    """

    layers = TOKEN_LAYERS

    def forward(self, image_tokens: Tensor, wanted: Collection[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield keys and values [B, T, D] for each block.

        image_tokens: [B, T, D], through the model's context_embedder.
        wanted: the places, from 0, of the blocks that are asked for; None for all.
        """
        keys, values, onward = self.layers
        for place, block in enumerate(self.children()):
            if wanted is None or place in wanted:
                yield getattr(block, keys)(image_tokens), getattr(block, values)(image_tokens)
            image_tokens = getattr(block, onward)(image_tokens)


class StreamProjections(NumberedLayers):
    """The four matrices of each block that act on the image and text streams at every step."""

    layers = STREAM_LAYERS

    def at(self, number: int) -> nn.Module:
        """Return the layers of the block with this published number."""
        return getattr(self, str(number))
