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
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from support import small_models


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
class Place:
    """An attention: its group of layers, its number there, and the part of the model.

    size: height and width of the image positions, None where all attentions are of one size. text: text positions
    before those.
    """

    group: int
    layer: int
    part: str
    size: tuple[int, int] | None = None
    text: int = 0


@dataclass(frozen=True)
class OracleAdapter:
    """Raw adapter weights under their published names, and the strength they act with."""

    weights: dict[str, Tensor]
    strength: float

    def token_values(self, values: Tensor) -> Tensor:
        """The attention's share of the values [1, T, D] of image tokens."""
        return values

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, heads: int, place: Place) -> Tensor:
        return self.strength * plain_attention(q, keys, values, heads)


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

    family: str
    adapters: tuple[OracleAdapter, ...] = ()
    control_on_negative = 1.0  # what a ControlNet's outputs are multiplied by on the side of the negative

    def extra_conds(self, **kwargs):
        conds = super().extra_conds(**kwargs)
        for number, term in enumerate(kwargs["terms"]):
            conds[f"coefficient {number}"] = comfy.conds.CONDRegular(torch.tensor([term.coefficient]))
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
            given = self._controlled(control, terms[f"side {number}"])
            pooled = {"y": terms[f"pooled {number}"]} if f"pooled {number}" in terms else {}
            out = super()._apply_model(x, t, c_concat, terms[f"text {number}"], given, options, **pooled)
            total += terms[f"coefficient {number}"][:, None, None, None] * out
        return total

    def _controlled(self, control: dict | None, sides: Tensor) -> dict | None:
        if control is None:
            return None
        factors = sides.new_tensor([1.0, self.control_on_negative], dtype=torch.float32)[sides][:, None, None, None]
        return {name: [None if o is None else o * factors for o in outputs] for name, outputs in control.items()}

    def _with_tokens(self, options: dict, tokens: list[Tensor]) -> dict:
        kind, patches = INJECTIONS[self.family](self, tokens)
        replacements = options.get("patches_replace", {})
        others = replacements.get(kind, {})
        ours = {site: around(others.get(site, others.get(site[:2])), patch) for site, patch in patches.items()}
        return {**options, "patches_replace": {**replacements, kind: {**others, **ours}}}


def around(other, patch):
    """`patch`, given what another pack already put in its place."""
    return lambda *args: patch(other, *args)


def cross_attention_patches(model: OracleModel, tokens: list[Tensor]) -> tuple[str, dict]:
    """A UNet: attention to the text, plus strength x attention to the image tokens, before the output projection."""

    def attention(index: int, site: tuple[str, int, int]):
        def patch(other, q, k, v, extra_options):
            heads = extra_options["n_heads"]
            out = other(q, k, v, extra_options) if other else optimized_attention(q, k, v, heads)
            size = tuple(extra_options["activations_shape"][-2:])
            place = Place(extra_options["transformer_index"], site[2], site[0], size)
            for adapter, image in zip(model.adapters, tokens, strict=True):
                keys, values = (
                    image @ adapter.weights[f"ip_adapter.{2 * index + 1}.{name}.weight"].T
                    for name in ("to_k_ip", "to_v_ip")
                )
                out = out + adapter.attention(q, keys, adapter.token_values(values), heads, place)
            return out

        return patch

    return "attn2", {site: attention(index, site) for index, site in enumerate(SITES[model.family])}


def joint_attention_patches(model: OracleModel, tokens: list[Tensor]) -> tuple[str, dict]:
    """An MMDiT: the block written out, with the authors' lines between its attention and projections."""
    denoiser = model.diffusion_model
    tokens = [denoiser.context_embedder(image) for image in tokens]
    image_tokens = {}  # block -> tokens of each adapter
    for number in range(0, len(denoiser.joint_blocks), 2):
        image_tokens[number] = tokens
        name = f"ip_adapter.{number}.proj_encoder_passthrough_ip.weight"
        tokens = [image @ a.weights[name].T for a, image in zip(model.adapters, tokens, strict=True)]

    def mixed(number: int, args: dict) -> dict:
        block, length = denoiser.joint_blocks[number], args["txt"].shape[1]
        text_qkv, text_rest = block.context_block.pre_attention(args["txt"], args["vec"])
        image_qkv, image_rest = block.x_block.pre_attention(args["img"], args["vec"])
        q, k, v = (torch.cat(pair, dim=1).flatten(2) for pair in zip(text_qkv, image_qkv, strict=True))
        heads = block.x_block.attn.num_heads
        attended = plain_attention(q, k, v, heads)
        text, image = attended[:, :length], attended[:, length:]
        group = number // 2  # of as many as have an adapter; thirds of them are the model's parts
        place = Place(group, 0, ("input", "middle", "output")[3 * group // len(image_tokens)], None, length)
        added_text, added_image = torch.zeros_like(text), torch.zeros_like(image)
        for adapter, own in zip(model.adapters, image_tokens[number], strict=True):
            w = {n.split(".")[2]: x.T for n, x in adapter.weights.items() if n.startswith(f"ip_adapter.{number}.")}
            keys = torch.cat([image @ w["to_k_ip"], own @ w["add_k_proj_ip"]], dim=1)
            values = torch.cat([image @ w["to_v_ip"], adapter.token_values(own @ w["add_v_proj_ip"])], dim=1)
            out = adapter.attention(q, keys, values, heads, place)
            added_text = added_text + out[:, :length] @ w["proj_encoder_hidden_states_ip"]
            added_image = added_image + out[:, length:] @ w["proj_ip"]
        return {
            "txt": block.context_block.post_attention(text + added_text, *text_rest),
            "img": block.x_block.post_attention(image + added_image, *image_rest),
        }

    def patch(number: int):
        def replaced(other, args, extra_options):
            if other is None:
                return mixed(number, args)
            return other(args, {**extra_options, "original_block": lambda inner_args: mixed(number, inner_args)})

        return replaced

    return "dit", {("double_block", number): patch(number) for number in image_tokens}


INJECTIONS = {
    "sd15": cross_attention_patches,
    "sdxl": cross_attention_patches,
    "sd3": joint_attention_patches,
}


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention, [B, N, H d] each."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def oracle_model(family: str, adapters: tuple[OracleAdapter, ...], dtype: torch.dtype = torch.float32):
    """A ModelPatcher of an `OracleModel` with the golden case's denoiser, on the CPU."""
    patcher = small_models.small_model(family, OracleModel, dtype, on=torch.device("cpu"))
    patcher.model.adapters = adapters
    return patcher
