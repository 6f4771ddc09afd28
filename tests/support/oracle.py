"""An independent way to the same pictures, for comparison.

The oracle is a bare ComfyUI model whose conditions say everything themselves: each condition carries a list
of terms (coefficient, text, image tokens), and one evaluation of the model is their weighted sum, every term a
whole evaluation of the same UNet with its own text and tokens. So the host's samplers and guiders run on it
as on any model, nothing has to know which row of a batch is which branch, and none of the pack's sampling
code takes part. Where an adapter's weights go is spelled out below.
"""

from __future__ import annotations

from dataclasses import dataclass

import comfy.conds
import comfy.model_base
import small
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

# Diffusers' order of the cross-attentions in ComfyUI's names: adapter index 2 i + 1 is the i-th of these.
# The small SDXL has SDXL's blocks with 2, 2, 3, 3 | 3, 3, 3, 2, 2, 2 | 3 layers instead of its 70.
def sites(blocks: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    return [(name, number, layer) for name, number, layers in blocks for layer in range(layers)]


SITES = {
    "sd15": sites(
        [("input", n, 1) for n in (1, 2, 4, 5, 7, 8)] + [("output", n, 1) for n in range(3, 12)] + [("middle", 0, 1)]
    ),
    "sdxl": sites(
        [("input", 4, 2), ("input", 5, 2), ("input", 7, 3), ("input", 8, 3)]
        + [("output", n, 3) for n in (0, 1, 2)]
        + [("output", n, 2) for n in (3, 4, 5)]
        + [("middle", 0, 3)]
    ),
}


@dataclass(frozen=True)
class OracleAdapter:
    """Raw adapter weights under their published names, and the strength they act with."""

    weights: dict[str, Tensor]
    strength: float


@dataclass(frozen=True)
class Term:
    """coefficient x prediction(text [1, L, D], pooled text [1, P] or None, image tokens [1, T, D] of each adapter).

    conditional: which side of the host's two-branch terms this is, for other packs to see.
    """

    coefficient: float
    conditional: bool
    text: Tensor
    pooled: Tensor | None
    tokens: tuple[Tensor, ...]


class OracleModel(comfy.model_base.BaseModel):
    """Evaluates the terms that its conditions carry."""

    adapters: tuple[OracleAdapter, ...] = ()
    sites: list[tuple[str, int, int]]

    def extra_conds(self, **kwargs):
        conds = super().extra_conds(**kwargs)
        for number, term in enumerate(kwargs["terms"]):
            conds[f"coefficient {number}"] = comfy.conds.CONDRegular(torch.full((1, 1, 1, 1), term.coefficient))
            conds[f"side {number}"] = comfy.conds.CONDRegular(torch.tensor([0 if term.conditional else 1]))
            conds[f"text {number}"] = comfy.conds.CONDRegular(term.text)
            if term.pooled is not None:
                conds[f"pooled {number}"] = comfy.conds.CONDRegular(term.pooled)
            for adapter, tokens in enumerate(term.tokens):
                conds[f"tokens {number} {adapter}"] = comfy.conds.CONDRegular(tokens)
        return conds

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **terms):
        total = torch.zeros_like(x)
        for number in range(sum(name.startswith("text") for name in terms)):
            tokens = [terms[f"tokens {number} {adapter}"] for adapter in range(len(self.adapters))]
            options = self._with_tokens(transformer_options, tokens)
            rows = len(x) // len(options["cond_or_uncond"])
            options["cond_or_uncond"] = terms[f"side {number}"][::rows].tolist()
            given = None if control is None else {name: list(outputs) for name, outputs in control.items()}
            pooled = {"y": terms[f"pooled {number}"]} if f"pooled {number}" in terms else {}
            out = super()._apply_model(x, t, c_concat, terms[f"text {number}"], given, options, **pooled)
            total += terms[f"coefficient {number}"] * out
        return total

    def _with_tokens(self, options: dict, tokens: list[Tensor]) -> dict:
        replacements = options.get("patches_replace", {})
        others = replacements.get("attn2", {})
        ours = {
            site: self._attention(index, tokens, others.get(site, others.get(site[:2])))
            for index, site in enumerate(self.sites)
        }
        return {**options, "patches_replace": {**replacements, "attn2": {**others, **ours}}}

    def _attention(self, index: int, tokens: list[Tensor], other):
        def attention(q, k, v, extra_options):
            heads = extra_options["n_heads"]
            out = other(q, k, v, extra_options) if other else optimized_attention(q, k, v, heads)
            for adapter, image in zip(self.adapters, tokens, strict=True):
                name = f"ip_adapter.{2 * index + 1}."
                keys = image @ adapter.weights[f"{name}to_k_ip.weight"].T
                values = image @ adapter.weights[f"{name}to_v_ip.weight"].T
                out = out + adapter.strength * plain_attention(q, keys, values, heads)
            return out

        return attention


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention, [B, N, H d] each."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def oracle_model(family: str, adapters: tuple[OracleAdapter, ...]):
    """A ModelPatcher of an `OracleModel` with the golden case's denoiser."""
    patcher = small.small_model(family, OracleModel)
    patcher.model.adapters = adapters
    patcher.model.sites = SITES[family]
    return patcher
