"""Image tokens in a UNet's cross-attention.

Axes: R rows of a batch (chunks x latents), C chunks, N image positions, L text tokens, T image tokens, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

from comfy.ldm.modules import attention
from torch import Tensor

from ..guidance.layer_weights import K_MEAN_V_PENALTY, KV, PENALTY_WIDTH, V_ONLY
from .model_view import SiteKey
from .rows import Attention, BatchRows, SiteAdapter


@dataclass(frozen=True)
class CrossAttentionPatch:
    """Computes attention(q, k, v) + sum over adapters of weight x attention(q, image keys, image values).

    Image keys and values come from the run, so a step projects nothing and copies nothing between devices.

    Source: arXiv 2308.06721 equation 5; unity-research/IP-Adapter-Instruct@57efbe4, the attention processors.
    """

    site: SiteKey
    adapters: tuple[SiteAdapter, ...]
    rows: BatchRows
    inner: Callable | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        """Return the site's attention: q [R, N, D], k and v [R, L, D] -> [R, N, D]."""
        self._check_rows(len(q))
        self.rows.note(self.site)
        out = self.inner(q, k, v, extra_options) if self.inner else attend(q, k, v, extra_options)
        for adapter in self.adapters:
            out = out + self._image_attention(adapter, q, k, extra_options)
        return out

    def _check_rows(self, found: int) -> None:
        expected = len(self.rows.branches) * len(self.rows.batch_indices)
        if found != expected:
            raise ValueError(
                f"Cross-attention with {expected} rows was expected, one for each latent of each condition; it has "
                f"{found}. Another node (such as one for regional prompts) repeats rows inside the attention: bypass "
                "that node and use ComfyUI's Conditioning (Set Mask), or bypass IPAdapter-Instruct."
            )

    def _image_attention(self, adapter: SiteAdapter, q: Tensor, text_keys: Tensor, extra_options: dict) -> Tensor:
        keys, values = adapter.keys_values(self.site, self.rows, q)
        weight, scaling = adapter.weight(self.site, self.rows, q), adapter.scaling
        if scaling != V_ONLY:
            keys, values = scaled(keys, values, weight, scaling)
        observer = self.rows.observer
        if observer is not None and not adapter.is_on_negative(self.site):
            heads, texts = extra_options["n_heads"], extra_options["uuids"]
            seen = Attention(q, keys, text_keys, heads, _grid(extra_options), texts)
            observer.see(adapter, self.site, self.rows, seen)
        # Latents of a chunk that share their tokens have their queries side by side: [C, b N, D].
        chunks = q.reshape(len(keys), -1, q.shape[-1])
        out = attend(chunks, keys, values, extra_options).reshape(q.shape)
        if scaling == V_ONLY:
            out = out * weight
        return out if adapter.masks is None else out * adapter.masks.at(_grid(extra_options), self.rows, q)


def _grid(extra_options: dict) -> tuple[int, int]:
    return tuple(extra_options["activations_shape"][-2:])


def attend(q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
    """Compute the host's attention for one of its cross-attention layers: q [R, N, D], k and v [R, T, D] -> [R, N, D].

    It is what the host takes, or a user has put in its place.
    """
    heads, precision = extra_options["n_heads"], extra_options["attn_precision"]
    settings = {"attn_precision": precision, "transformer_options": extra_options}
    return attention.optimized_attention(q, k, v, heads=heads, **settings)


def scaled(keys: Tensor, values: Tensor, weight: float | Tensor, scaling: str) -> tuple[Tensor, Tensor]:
    """Return the weighted keys and values, [C, T, D] or [R, T, D].

    keys, values: [C or R, T, D]. weight: one number, or [R, 1, 1].
    K+V: both by the weight, which also flattens or sharpens what a position looks at. With C penalty: by less in
    narrow layers. K+mean(V): of the values only their mean, so that what tells tokens apart keeps its strength.

    Source: cubiq/ComfyUI_IPAdapter_plus@f204d6fc, CrossAttentionPatch.py; the last is Lvmin Zhang's, from Fooocus.
    """
    if isinstance(weight, Tensor):
        keys, values = (x.repeat_interleave(len(weight) // len(x), dim=0) for x in (keys, values))
    if scaling != KV:
        weight = weight * (keys.shape[-1] / PENALTY_WIDTH)
    if scaling != K_MEAN_V_PENALTY:
        return keys * weight, values * weight
    mean = values.mean(dim=1, keepdim=True)
    return keys * weight, values - mean + mean * weight
