"""Image tokens in a UNet's cross-attention.

Axes: R rows of a batch (chunks x latents), C chunks, N image positions, L text tokens, T image tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from comfy.ldm.modules import attention
from torch import Tensor

from .run import BatchRows, RunningAdapter
from .sites import SiteKey


@dataclass(frozen=True)
class CrossAttentionPatch:
    """attention(q, k, v) + sum over adapters of weight x attention(q, image keys, image values).

    Image keys and values come from the run, so a step projects nothing and copies nothing from the device.

    Source: arXiv 2308.06721 equation 5; unity-research/IP-Adapter-Instruct@57efbe4, the attention processors.
    """

    site: SiteKey
    adapters: tuple[RunningAdapter, ...]
    rows: BatchRows
    inner: Callable | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        """q [R, N, D], k and v [R, L, D] -> [R, N, D]."""
        self._check_rows(len(q))
        out = self.inner(q, k, v, extra_options) if self.inner else attend(q, k, v, extra_options)
        for adapter in self.adapters:
            out = out + self._image_attention(adapter, q, extra_options)
        return out

    def _check_rows(self, found: int) -> None:
        expected = len(self.rows.branches) * len(self.rows.frames)
        if found != expected:
            raise ValueError(
                f"Cross-attention with {expected} rows was expected, one for each latent of each condition; it has "
                f"{found}. Another node (such as one for regional prompts) repeats rows inside the attention: bypass "
                "that node and use ComfyUI's Conditioning (Set Mask), or bypass IPAdapter-Instruct."
            )

    def _image_attention(self, adapter: RunningAdapter, q: Tensor, extra_options: dict) -> Tensor:
        keys, values = (x.to(q) for x in adapter.keys_values.at(self.site, self.rows))
        # Latents of a chunk that share their tokens have their queries side by side: [C, b N, D].
        chunks = q.reshape(len(keys), -1, q.shape[-1])
        out = attend(chunks, keys, values, extra_options).reshape(q.shape) * adapter.weight(self.rows, q)
        if adapter.masks is None:
            return out
        size = tuple(extra_options["activations_shape"][-2:])
        return out * adapter.masks.at(size, self.rows.latent_size, self.rows.areas, self.rows.frames, q)


def attend(q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
    """The host's attention, with whatever a user has put in its place."""
    return attention.optimized_attention(
        q,
        k,
        v,
        heads=extra_options["n_heads"],
        attn_precision=extra_options["attn_precision"],
        transformer_options=extra_options,
    )
