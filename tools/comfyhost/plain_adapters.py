"""Random adapters of the kinds that take no instruction, in the names and shapes of the published files.

Written from the published keys alone, so that the pack's loader is tested against something it did not make.
Source: tencent-ailab/IP-Adapter@cfcdf8c, and the files at h94/IP-Adapter, h94/IP-Adapter-FaceID,
ostris/ip-composition-adapter and Kwai-Kolors/Kolors-IP-Adapter-Plus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from comfyhost.adapters import attention, cross_sites, feed_forward
from comfyhost.weights import Blueprint

FACE = 512
SD15, SDXL = 768, 2048  # the widths of their tokens
VIT_H, VIT_H_POOLED, BIG_G_POOLED, VIT_L = 1280, 1024, 1280, 1024


@dataclass(frozen=True)
class Plain:
    """The sizes of a plain adapter.

    image: what it reads of a picture. width, heads, blocks: of its resampler, whose feed-forwards are `growth` times
    as wide. rank: of its LoRA, 0 for none.
    """

    kind: str
    token_width: int = SD15
    tokens: int = 4
    image: int = VIT_H_POOLED
    width: int = 768
    heads: int = 12
    rank: int = 0
    blocks: int = 4
    growth: int = 4


def plain_adapter(sizes: Plain, sites: Sequence[int]) -> Blueprint:
    """An adapter for a UNet whose cross-attentions are `sites` wide, in diffusers' order: down, up, middle.

    The names carry the prefixes `image_proj.` and `ip_adapter.`.
    """
    parts = Blueprint()
    parts.add("image_proj.", image_projection(sizes))
    parts.add("ip_adapter.", cross_sites(sites, sizes.token_width))
    if sizes.rank:
        parts.add("ip_adapter.", lora(sites, sizes))
    return parts


def image_projection(sizes: Plain) -> Blueprint:
    parts = Blueprint()
    match sizes.kind:
        case "base":
            parts.linear("proj", sizes.image, sizes.tokens * sizes.token_width)
            parts.norm("norm", sizes.token_width)
        case "full-face":
            parts.linear("proj.0", sizes.image, sizes.image)
            parts.linear("proj.2", sizes.image, sizes.token_width)
            parts.norm("proj.3", sizes.token_width)
        case "faceid" | "faceid-plus":
            parts.linear("proj.0", FACE, 2 * FACE)
            parts.linear("proj.2", 2 * FACE, sizes.tokens * sizes.token_width)
            parts.norm("norm", sizes.token_width)
        case "plus" | "faceid-resampler":  # the latter reads a face in place of a picture's states
            parts.put("latents", 1, sizes.tokens, sizes.width, spread=sizes.width**-0.5)
            parts.add("", reader(sizes))
    if sizes.kind == "faceid-plus":
        parts.add("perceiver_resampler.", reader(sizes))
    return parts


def reader(sizes: Plain) -> Blueprint:
    """A resampler without its queries."""
    parts = Blueprint()
    parts.linear("proj_in", sizes.image, sizes.width)
    for block in range(sizes.blocks):
        attention(parts, f"layers.{block}.0.", sizes)
        feed_forward(parts, f"layers.{block}.1.", sizes.width, sizes.growth)
    parts.linear("proj_out", sizes.width, sizes.token_width)
    parts.norm("norm_out", sizes.token_width)
    return parts


def lora(sites: Sequence[int], sizes: Plain) -> Blueprint:
    """The LoRA of each site's self-attention 2 i and cross-attention 2 i + 1; only the latter's keys see the text."""
    parts = Blueprint()
    for site, width in enumerate(sites):
        for number in (2 * site, 2 * site + 1):
            for layer in ("to_q", "to_k", "to_v", "to_out"):
                of_text = number % 2 and layer in ("to_k", "to_v")
                wide_in = sizes.token_width if of_text else width
                parts.linear(f"{number}.{layer}_lora.down", wide_in, sizes.rank, bias=False)
                parts.linear(f"{number}.{layer}_lora.up", sizes.rank, width, bias=False, gain=0.3)
    return parts


LIGHT = Plain("base")
PLUS_SD15 = Plain("plus", tokens=16, image=VIT_H)
PLUS_SDXL = Plain("plus", SDXL, 16, VIT_H, width=1280, heads=20)
FACE_PLUS_SD15 = Plain("faceid-plus", image=VIT_H, rank=128)
PUBLISHED = {
    "ip-adapter_sd15.safetensors": LIGHT,
    "ip-adapter_sd15_light.safetensors": LIGHT,
    "ip-adapter_sd15_light_v11.bin": LIGHT,
    "ip-adapter_sd15_vit-G.safetensors": Plain("base", image=BIG_G_POOLED),
    "ip-adapter-plus_sd15.safetensors": PLUS_SD15,
    "ip-adapter-plus-face_sd15.safetensors": PLUS_SD15,
    "ip-adapter-full-face_sd15.safetensors": Plain("full-face", tokens=0, image=VIT_H),
    "ip-adapter_sdxl.safetensors": Plain("base", SDXL, image=BIG_G_POOLED),
    "ip-adapter_sdxl_vit-h.safetensors": Plain("base", SDXL),
    "ip-adapter-plus_sdxl_vit-h.safetensors": PLUS_SDXL,
    "ip-adapter-plus-face_sdxl_vit-h.safetensors": PLUS_SDXL,
    "ip-adapter-faceid_sd15.bin": Plain("faceid", rank=128),
    "ip-adapter-faceid-plus_sd15.bin": FACE_PLUS_SD15,
    "ip-adapter-faceid-plusv2_sd15.bin": FACE_PLUS_SD15,
    "ip-adapter-faceid-portrait_sd15.bin": Plain("faceid", tokens=16),
    "ip-adapter-faceid-portrait-v11_sd15.bin": Plain("faceid", tokens=16),
    "ip-adapter-faceid_sdxl.bin": Plain("faceid", SDXL, rank=128),
    "ip-adapter-faceid-plusv2_sdxl.bin": Plain("faceid-plus", SDXL, image=VIT_H, width=SDXL, heads=32, rank=128),
    "ip-adapter-faceid-portrait_sdxl.bin": Plain("faceid", SDXL, tokens=16),
    "ip-adapter-faceid-portrait_sdxl_unnorm.bin": Plain("faceid-resampler", SDXL, 16, FACE, width=1280, heads=20),
    "ip_plus_composition_sd15.safetensors": PLUS_SD15,
    "ip_plus_composition_sdxl.safetensors": PLUS_SDXL,
    "ip_adapter_plus_general.bin": Plain("plus", SDXL, 16, VIT_L, width=2048, heads=12),
}


def unfilled(blueprint: Blueprint) -> dict[str, Tensor]:
    """A file's tensors on the meta device: their names and shapes, without numbers and without memory."""
    return {name: torch.empty(weight.shape, device="meta") for name, weight in blueprint.items()}
