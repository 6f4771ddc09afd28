"""Small checkpoints that ComfyUI (0.3.75 and 0.33.0 checked) loads as SD1.5, SDXL and SD3.

Names and shapes are spelled out; nothing of ComfyUI is imported. ComfyUI recognises a model by its shapes,
which fixes most of them: 320 channels, CLIP-L's 123 M weights, SDXL's transformer depths.
"""

from __future__ import annotations

import torch

from comfyhost.denoisers import MMDiT, UNet, mmdit, unet
from comfyhost.encoders import clip_g_text, clip_l_text, open_clip_g_text, taesd
from comfyhost.weights import Blueprint

SD15 = UNet([1, 2, 4, 4], [2] * 4, [1] * 6 + [0, 0], 1, [0] * 3 + [1] * 9)
SDXL_DEPTHS = [0, 0, 2, 2, 10, 10]
SDXL = {"context": 2048, "linear_projections": True, "label": 2816}

UNETS = {
    "sd15": UNet([1], [1], [1], 1, [1, 0]),
    "sd15full": UNet([1, 1, 1, 1], SD15.res_blocks, SD15.depths_in, SD15.depth_middle, SD15.depths_out),
    "sd15real": SD15,
    "sdxl": UNet([1], [6], SDXL_DEPTHS, None, [0] * 7, **SDXL),
    "sdxlfull": UNet([1, 1, 1], [2] * 3, SDXL_DEPTHS, 10, [10] * 3 + [2] * 3 + [0] * 3, **SDXL),
}
MMDITS = {
    "sd3": MMDiT(depth=2),
    "sd3deep": MMDiT(depth=6),
    "sd35": MMDiT(depth=3, norm_queries=True, dual_blocks=[0]),
}
KINDS = (*UNETS, *MMDITS)


def checkpoint(kind: str, clip_l: bool = True, clip_g: bool = False) -> Blueprint:
    """A whole checkpoint: denoiser, text encoders, TAESD as VAE.

    sd15, sdxl, sd3: the least that ComfyUI takes for the family. sd15full, sdxlfull: every cross attention of
    the real model, 320 wide throughout. sd15real: the real SD1.5 UNet. sd3deep: three blocks that receive
    image tokens and three that pass them on. sd35: an SD3.5 medium, with a second self attention in its first
    block. `clip_g`: with the CLIP-G that SDXL and SD3 have; SDXL encodes nothing sensible without it.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no checkpoint kind {kind!r}. Choose one of: {', '.join(KINDS)}.")
    parts = Blueprint()
    parts.add("model.diffusion_model.", unet(UNETS[kind]) if kind in UNETS else mmdit(MMDITS[kind]))
    if clip_l:
        parts.add(clip_l_prefix(kind), clip_l_text())
    if clip_g:
        parts.add(*clip_g_part(kind))
    parts.add("first_stage_model.", taesd(latent=16 if kind in MMDITS else 4))
    return parts


def clip_l_prefix(kind: str) -> str:
    """Return the prefix under which a checkpoint of this kind keeps CLIP-L."""
    if kind in MMDITS:
        return "text_encoders.clip_l.transformer."
    return "conditioner.embedders.0.transformer." if UNETS[kind].label else "cond_stage_model.transformer."


def clip_g_part(kind: str) -> tuple[str, Blueprint]:
    """Return the prefix and the tensors of this kind's CLIP-G. In fp8, which saves 0.7 GB and loads as fast as fp16."""
    prefix, tower = (
        ("text_encoders.clip_g.transformer.", clip_g_text())
        if kind in MMDITS
        else ("conditioner.embedders.1.model.", open_clip_g_text())
    )
    return prefix, tower.with_matrices(torch.float8_e4m3fn)
