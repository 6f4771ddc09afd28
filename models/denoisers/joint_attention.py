"""The adapter of an MMDiT: layers for every second joint block.

Some make keys and values of image tokens, others act on the block's own image and text streams.

Axes: B batch, T image tokens, N image positions, L text tokens, D width.

Source: unity-research/IP-Adapter-Instruct@57efbe4, the SD3 attention processor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor, nn

from .cross_attention import NumberedLayers, layer_shapes

TOKEN_LAYERS = ("add_k_proj_ip", "add_v_proj_ip", "proj_encoder_passthrough_ip")
STREAM_LAYERS = ("to_k_ip", "to_v_ip", "proj_ip", "proj_encoder_hidden_states_ip")


def block_widths(state: Mapping[str, Tensor]) -> dict[int, int]:
    """Return each block's width by number, read off NUMBER.to_k_ip.weight and the like. Raises KeyError without any."""
    shapes = layer_shapes(state, TOKEN_LAYERS + STREAM_LAYERS, "0.to_k_ip")
    return {number: shape[0] for number, shape in shapes.items()}


class TokenProjections(NumberedLayers):
    """Square layers that turn image tokens into keys and values, block after block, under the numbers 0, 2, 4 ...

    These depend on the tokens alone, never on the step.
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
