"""Image tokens in an MMDiT's joint attention.

Axes: R rows of a batch (chunks x latents), C chunks, N image positions, L text tokens, T image tokens, D width.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.ldm.modules import attention
from torch import Tensor

from .model_view import SiteKey
from .rows import Attention, BatchRows, SiteAdapter

OVERRIDE = "optimized_attention_override"  # the host's option for another attention than its own


@dataclass(frozen=True)
class JointBlockPatch:
    """Lets the host's own block run, with `JointImageAttention` around its attention."""

    site: SiteKey
    adapters: tuple[SiteAdapter, ...]
    rows: BatchRows
    inner: Callable | None

    def __call__(self, args: dict, extra_options: dict) -> dict:
        options = args["transformer_options"]
        override = JointImageAttention(self, args["txt"].shape[1], args["img"].shape[1], options)
        args = {**args, "transformer_options": {**options, OVERRIDE: override}}
        return self.inner(args, extra_options) if self.inner else extra_options["original_block"](args)


@dataclass(frozen=True)
class JointImageAttention:
    """The block's joint attention, then its streams' attention to the image tokens, before the output projections.

    Keys and values come from the tokens and from the *attended* image stream, a slip of the authors that the
    published weights were trained with.

    Source: unity-research/IP-Adapter-Instruct@57efbe4, the SD3 attention processor.
    """

    patch: JointBlockPatch
    text_tokens: int
    image_positions: int
    options: dict

    def __call__(self, function: Callable, q: Tensor, k: Tensor, v: Tensor, *args, **kwargs) -> Tensor:
        """Return the attention of q, k, v [R, L + N, D], text first.

        A block's second attention, over [R, N, D], is left as it is.
        """
        users = self.options.get(OVERRIDE)
        out = users(function, q, k, v, *args, **kwargs) if users else function(q, k, v, *args, **kwargs)
        if q.shape[1] != self.text_tokens + self.image_positions:
            return out
        self.patch.rows.note(self.patch.site)
        added = (self._image_attention(a, q, out[:, self.text_tokens :], kwargs["heads"]) for a in self.patch.adapters)
        return sum(added, start=out)

    def _image_attention(self, adapter: SiteAdapter, q: Tensor, image: Tensor, heads: int) -> Tensor:
        site, rows = self.patch.site, self.patch.rows
        layers = adapter.stream_layers(site, image)
        pair = adapter.keys_values(site, rows, q)  # latents of a chunk share tokens or have their own
        token_keys, token_values = (x.repeat_interleave(len(q) // len(x), dim=0) for x in pair)  # [R, T, D]
        keys = torch.cat((layers.to_k_ip(image), token_keys), dim=1)  # [R, N + T, D]
        values = torch.cat((layers.to_v_ip(image), token_values), dim=1)
        if rows.observer is not None:
            queries, others = q[:, self.text_tokens :], keys[:, : self.image_positions]
            rows.observer.see(adapter, site, rows, Attention(queries, token_keys, others, heads, self._grid()))
        out = attention.optimized_attention(q, keys, values, heads=heads, transformer_options=self.options)
        text = layers.proj_encoder_hidden_states_ip(out[:, : self.text_tokens])
        image = layers.proj_ip(out[:, self.text_tokens :])
        if adapter.masks is not None:
            mask = adapter.masks.at(self._grid(), rows, q)
            text, image = text * mask.mean(dim=1, keepdim=True), image * mask
        return torch.cat((text, image), dim=1) * adapter.weight(site, rows, q)

    def _grid(self) -> tuple[int, int]:
        """Return height and width of the image positions.

        They are patches of the latent that this call is for; edges are filled up.
        Larger patches make neither side longer, so there is one grid of so many positions.
        """
        height, width = self.patch.rows.input_size
        grids = ((math.ceil(height / side), math.ceil(width / side)) for side in itertools.count(1))
        return next(grid for grid in grids if math.prod(grid) <= self.image_positions)
