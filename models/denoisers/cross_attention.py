"""The adapter of a UNet: one pair of projections, from image tokens to keys and values, for each site.

Axes: B batch, T image tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType

from torch import Size, Tensor, nn

KEYS, VALUES = "to_k_ip", "to_v_ip"


def site_widths(state: Mapping[str, Tensor]) -> tuple[dict[int, int], int]:
    """Return each site's width by its number, and the context width, read off NUMBER.to_k_ip.weight and the like.

    A site whose keys or values are missing counts too, so that the gap is found. Raises KeyError when there is none.
    """
    shapes = layer_shapes(state, (KEYS, VALUES))
    if not shapes:
        raise KeyError(f"1.{KEYS}.weight")
    return {number: shape[0] for number, shape in shapes.items()}, next(iter(shapes.values()))[1]


def layer_shapes(state: Mapping[str, Tensor], layers: Sequence[str]) -> dict[int, Size]:
    """Return by number the shape of one of its layers, read off NUMBER.LAYER.weight, in the order of the numbers."""
    pattern = re.compile(rf"(\d+)\.({'|'.join(layers)})\.weight")
    found = {int(match[1]): weight.shape for name, weight in state.items() if (match := pattern.fullmatch(name))}
    return dict(sorted(found.items()))


class SiteProjections(nn.Module):
    """The layers to_k_ip and to_v_ip of every cross-attention site, under the published numbers 1, 3, 5 ...

    A site's number is 2 i + 1 for the i-th cross-attention in diffusers' order: down blocks, up blocks,
    then the middle block. Iteration and `forward` keep that order.
    """

    def __init__(self, widths: Mapping[int, int], context_width: int, operations: ModuleType = nn):
        super().__init__()
        self.context_width = context_width
        self.widths = tuple(widths[number] for number in sorted(widths))
        for number in sorted(widths):
            site = nn.Module()
            for name in (KEYS, VALUES):
                site.add_module(name, operations.Linear(context_width, widths[number], bias=False))
            self.add_module(str(number), site)

    def forward(self, image_tokens: Tensor, wanted: Collection[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each site keys and values: image_tokens [B, T, context_width] -> [B, T, site width].

        wanted: the places, from 0, of the sites that are asked for; None for all.
        """
        for place, site in enumerate(self.children()):
            if wanted is None or place in wanted:
                yield getattr(site, KEYS)(image_tokens), getattr(site, VALUES)(image_tokens)
