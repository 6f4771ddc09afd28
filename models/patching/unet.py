"""Image tokens in a UNet's cross-attention.

Axes: R rows of a batch (chunks x latents), C chunks, N image positions, L text tokens, T image tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..layers import V_ONLY
from . import host_attention
from .run import ActingAdapter, BatchRows
from .scaling import scaled
from .sites import SiteKey
from .watch import LOOK, Attention


@dataclass(frozen=True)
class CrossAttentionPatch:
    """attention(q, k, v) + sum over adapters of weight x attention(q, image keys, image values).

    Image keys and values come from the run, so a step projects nothing and copies nothing between devices.

    Source: arXiv 2308.06721 equation 5; unity-research/IP-Adapter-Instruct@57efbe4, the attention processors.
    """

    site: SiteKey
    adapters: tuple[ActingAdapter, ...]
    rows: BatchRows
    inner: Callable | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        """q [R, N, D], k and v [R, L, D] -> [R, N, D]."""
        self._check_rows(len(q))
        self.rows.note(self.site)
        out = self.inner(q, k, v, extra_options) if self.inner else attend(q, k, v, extra_options)
        for adapter in self.adapters:
            out = out + self._image_attention(adapter, q, k, extra_options)
        return out

    def _check_rows(self, found: int) -> None:
        expected = len(self.rows.branches) * len(self.rows.frames)
        if found != expected:
            raise ValueError(
                f"Cross-attention with {expected} rows was expected, one for each latent of each condition; it has "
                f"{found}. Another node (such as one for regional prompts) repeats rows inside the attention: bypass "
                "that node and use ComfyUI's Conditioning (Set Mask), or bypass IPAdapter-Instruct."
            )

    def _image_attention(self, adapter: ActingAdapter, q: Tensor, text_keys: Tensor, extra_options: dict) -> Tensor:
        keys, values = adapter.keys_values(self.site, self.rows, q)
        weight, scaling = adapter.weight(self.site, self.rows, q), adapter.applied.scaling
        if scaling != V_ONLY:
            keys, values = scaled(keys, values, weight, scaling)
        if LOOK in extra_options and not adapter.is_on_negative(self.site):
            look, heads, size = extra_options[LOOK], extra_options["n_heads"], _grid(extra_options)
            attention_seen = Attention(q, keys, text_keys, heads, size, look.lengths(extra_options))
            look.see(adapter, self.site, self.rows, attention_seen)
        # Latents of a chunk that share their tokens have their queries side by side: [C, b N, D].
        chunks = q.reshape(len(keys), -1, q.shape[-1])
        out = attend(chunks, keys, values, extra_options).reshape(q.shape)
        if scaling == V_ONLY:
            out = out * weight
        if adapter.masks is None:
            return out
        size = _grid(extra_options)
        return out * adapter.masks.at(size, self.rows.latent_size, self.rows.areas, self.rows.frames, q)


def _grid(extra_options: dict) -> tuple[int, int]:
    """Height and width of the image positions."""
    return tuple(extra_options["activations_shape"][-2:])


def attend(q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
    """The host's attention for one of its cross-attention layers."""
    heads, precision = extra_options["n_heads"], extra_options["attn_precision"]
    return host_attention.attend(q, k, v, heads, extra_options, attn_precision=precision)
