"""Every adapter file that is published for the pack's base models, and what the pack must make of it. Torch only.

The tensors are those of tools/comfyhost, which is written without the pack's own code. `size` is the file's in bytes,
where it is known: it confirms the shapes, since the published numbers are half precision (but the image projection of
the unnormalised portrait, float32).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfyhost.adapters import FACE, SD15, SDXL, Plain, instruct_adapter, plain_adapter
from comfyhost.weights import Blueprint
from torch import Tensor

from support.published import site_widths


@dataclass(frozen=True)
class Expected:
    """reads: the width that is read of an image encoder, None for a face alone; image_embeds: of its
    projected embedding.

    tokens: 0 for as many as there are hidden states.
    """

    kind: str
    family: str
    tokens: int
    reads: int | None
    image_embeds: bool = False
    has_lora: bool = False
    size: int = 0


def base(family: str, reads: int, size: int) -> Expected:
    return Expected("base", family, 4, reads, image_embeds=True, size=size)


def plus(family: str, size: int = 0, reads: int = 1280) -> Expected:
    return Expected("plus", family, 16, reads, size=size)


def face(kind: str, family: str, reads: int | None = None, size: int = 0) -> Expected:
    return Expected(kind, family, 4, reads, has_lora=True, size=size)


def portrait(family: str, size: int = 0) -> Expected:
    return Expected("faceid", family, 16, None, size=size)


PLAIN = {
    "ip-adapter_sd15.safetensors": base("sd15", 1024, 44_642_768),
    "ip-adapter_sd15_light.safetensors": base("sd15", 1024, 44_642_768),
    "ip-adapter_sd15_light_v11.bin": base("sd15", 1024, 44_642_977),
    "ip-adapter_sd15_vit-G.safetensors": base("sd15", 1280, 46_215_640),
    "ip-adapter-plus_sd15.safetensors": plus("sd15", 98_183_288),
    "ip-adapter-plus-face_sd15.safetensors": plus("sd15"),
    "ip-adapter-full-face_sd15.safetensors": Expected("full-face", "sd15", 0, 1280, size=43_592_352),
    "ip-adapter_sdxl.safetensors": base("sdxl", 1280, 702_585_376),
    "ip-adapter_sdxl_vit-h.safetensors": base("sdxl", 1024, 698_391_064),
    "ip-adapter-plus_sdxl_vit-h.safetensors": plus("sdxl", 847_517_512),
    "ip-adapter-plus-face_sdxl_vit-h.safetensors": plus("sdxl", 847_517_512),
    "ip-adapter-faceid_sd15.bin": face("faceid", "sd15", size=96_740_574),
    "ip-adapter-faceid-plus_sd15.bin": face("faceid-plus", "sd15", 1280),
    "ip-adapter-faceid-plusv2_sd15.bin": face("faceid-plus-v2", "sd15", 1280, 156_558_509),
    "ip-adapter-faceid-portrait_sd15.bin": portrait("sd15"),
    "ip-adapter-faceid-portrait-v11_sd15.bin": portrait("sd15", 64_586_623),
    "ip-adapter-faceid_sdxl.bin": face("faceid", "sdxl"),
    "ip-adapter-faceid-plusv2_sdxl.bin": face("faceid-plus-v2", "sdxl", 1280, 1_487_555_181),
    "ip-adapter-faceid-portrait_sdxl.bin": portrait("sdxl", 749_822_515),
    "ip-adapter-faceid-portrait_sdxl_unnorm.bin": Expected("faceid-resampler", "sdxl", 16, None, size=1_009_523_411),
    "ip_plus_composition_sd15.safetensors": plus("sd15"),
    "ip_plus_composition_sdxl.safetensors": plus("sdxl"),
    "ip_adapter_plus_general.bin": plus("sdxl", reads=1024),  # Kolors, whose UNet is SDXL's
}
INSTRUCT = {
    f"ip-adapter-instruct-{family}.bin": Expected("instruct", family, 16, 1280) for family in ("sd15", "sdxl", "sd3")
}
FILES = {**PLAIN, **INSTRUCT}
VIT_H, BIG_G_POOLED, VIT_L = 1280, 1280, 1024
LIGHT = Plain("base")
PLUS_SD15 = Plain("plus", tokens=16, image=VIT_H)
PLUS_SDXL = Plain("plus", SDXL, 16, VIT_H, width=1280, heads=20)
FACE_PLUS_SD15 = Plain("faceid-plus", image=VIT_H, rank=128)
SIZES = {
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


def blueprint(name: str) -> Blueprint:
    """The contents of the published file."""
    if name in INSTRUCT:
        return instruct_adapter(INSTRUCT[name].family, site_widths.SITES[INSTRUCT[name].family])
    sizes = SIZES[name]
    return plain_adapter(sizes, site_widths.SITES["sd15" if sizes.token_width == SD15 else "sdxl"])


def tensors(name: str) -> dict[str, Tensor]:
    """The published file's tensors on the meta device."""
    return unfilled(blueprint(name))


def unfilled(parts: Blueprint) -> dict[str, Tensor]:
    """A file's tensors on the meta device: their names and shapes, without numbers and without memory."""
    return {name: torch.empty(weight.shape, device="meta") for name, weight in parts.items()}


def bytes_of_tensors(name: str) -> int:
    """In the published precision."""
    parts = blueprint(name)
    if FILES[name].kind != "faceid-resampler":
        return parts.size(torch.float16)
    projection = Blueprint({name: weight for name, weight in parts.items() if name.startswith("image_proj.")})
    return parts.size(torch.float16) + projection.size(torch.float16)
