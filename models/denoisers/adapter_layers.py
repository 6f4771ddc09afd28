"""The layers that an adapter brings into the attentions of a denoiser, as its file has them.

Axes: B batch, T image tokens, D width.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType

from torch import Size, Tensor, nn

KEYS, VALUES = "to_k_ip", "to_v_ip"
TOKEN_LAYERS = ("add_k_proj_ip", "add_v_proj_ip", "proj_encoder_passthrough_ip")
STREAM_LAYERS = ("to_k_ip", "to_v_ip", "proj_ip", "proj_encoder_hidden_states_ip")


def layer_shapes(state: Mapping[str, Tensor], layers: Sequence[str], first: str) -> dict[int, Size]:
    """Return for each number the shape of one of its layers, read off NUMBER.LAYER.weight, in the numbers' order.

    A number of which some layer is missing counts too, so that the gap is found. Raises KeyError, which names the
    `first` tensor, when there is none.
    """
    pattern = re.compile(rf"(\d+)\.({'|'.join(layers)})\.weight")
    found = {int(match[1]): weight.shape for name, weight in state.items() if (match := pattern.fullmatch(name))}
    if not found:
        raise KeyError(first)
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
        """Yield for each site keys and values: image_tokens [B, T, in_width] -> [B, T, site width].

        wanted: the places, from 0, of the sites that are asked for; None for all.
        """
        keys, values, *onward = self.layers
        for place, site in enumerate(self.children()):
            if wanted is None or place in wanted:
                yield getattr(site, keys)(image_tokens), getattr(site, values)(image_tokens)
            for layer in onward:
                image_tokens = getattr(site, layer)(image_tokens)


class TokenProjections(SiteProjections):
    """Square layers that turn image tokens into keys and values, block after block, under the numbers 0, 2, 4 ...

    A third layer passes the tokens on to the next block. They begin as the model's context_embedder gives them, and
    depend on nothing else, never on the step.
    Source: unity-research/IP-Adapter-Instruct@57efbe4, the SD3 attention processor.
    """

    layers = TOKEN_LAYERS


class StreamProjections(NumberedLayers):
    """The four matrices of each block that act on the image and text streams at every step."""

    layers = STREAM_LAYERS

    def at(self, number: int) -> nn.Module:
        """Return the layers of the block with this published number."""
        return getattr(self, str(number))
