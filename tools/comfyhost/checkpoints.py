"""Small checkpoints that ComfyUI (0.3.75 and 0.33.0 checked) loads as SD1.5, SDXL and SD3.

They are made of its own classes, on the meta device, with the settings below. ComfyUI recognises a model by its shapes,
which fixes most of them: 320 channels, CLIP-L's 123 M weights, SDXL's transformer depths.
"""

from __future__ import annotations

import torch

from comfyhost.denoisers import mmdit, unet
from comfyhost.encoders import clip_g_text, clip_l_text, open_clip_g_text, taesd
from comfyhost.weights import Blueprint

# The depths at the output are in ComfyUI's order, the last block first.
SD15_DEPTHS = {
    "num_res_blocks": [2] * 4,
    "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "context_dim": 768,
}
SDXL = {
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
LEAST_SD15 = {"transformer_depth": [1], "transformer_depth_middle": 1, "transformer_depth_output": [0, 1]}
UNETS = {
    "sd15": {"channel_mult": [1], "num_res_blocks": [1], **LEAST_SD15, "context_dim": 768},
    "sd15full": {"channel_mult": [1] * 4, **SD15_DEPTHS},
    "sd15real": {"channel_mult": [1, 2, 4, 4], **SD15_DEPTHS},
    "sdxl": {
        **{"channel_mult": [1], "num_res_blocks": [6], **SDXL},
        **{"transformer_depth_middle": -1, "transformer_depth_output": [0] * 7},  # -1: the middle is one res block
    },
    "sdxlfull": {
        **{"channel_mult": [1] * 3, "num_res_blocks": [2] * 3, **SDXL},
        **{"transformer_depth_middle": 10, "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3},
    },
}
MMDITS = {
    "sd3": {"depth": 2},
    "sd3deep": {"depth": 6},
    "sd35": {"depth": 3, "qk_norm": "rms", "x_block_self_attn_layers": [0]},
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
    return "conditioner.embedders.0.transformer." if "num_classes" in UNETS[kind] else "cond_stage_model.transformer."


def clip_g_part(kind: str) -> tuple[str, Blueprint]:
    """Return the prefix and the tensors of this kind's CLIP-G. In fp8, which saves 0.7 GB and loads as fast as fp16."""
    prefix, tower = (
        ("text_encoders.clip_g.transformer.", clip_g_text())
        if kind in MMDITS
        else ("conditioner.embedders.1.model.", open_clip_g_text())
    )
    return prefix, tower.with_matrices(torch.float8_e4m3fn)
