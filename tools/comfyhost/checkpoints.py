"""Small checkpoints that ComfyUI (0.3.75 and 0.33.0 checked) loads as SD1.5, SDXL and SD3; a ControlNet and a LoRA.

They are made of its own classes, on the meta device, with the settings below. ComfyUI recognises a model by its shapes,
which fixes most of them: 320 channels, CLIP-L's 123 M weights, SDXL's transformer depths.
"""

from collections.abc import Mapping

import torch

from comfyhost.encoders import clip_g_text, clip_l_text, open_clip_g_text, taesd
from comfyhost.in_process import import_comfyui
from comfyhost.weights import Blueprint, described

CHANNELS = 320
HEAD = 64
UNET = {
    **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": CHANNELS, "num_head_channels": HEAD},
    **{"use_spatial_transformer": True, "legacy": False},
}
MMDIT = {"in_channels": 16, "adm_in_channels": 2048, "num_patches": 32 * 32}
LORA_RANK = 4
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
PREFIXES = {  # of CLIP-L and CLIP-G in a checkpoint
    "sd15": ("cond_stage_model.transformer.", "conditioner.embedders.1.model."),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd3": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."),
}


def checkpoint(kind: str, clip_l: bool = True, clip_g: bool = False) -> Blueprint:
    """A whole checkpoint: denoiser, text encoders, TAESD as VAE.

    sd15, sdxl, sd3: the least that ComfyUI takes for the family. sd15full, sdxlfull: every cross attention of
    the real model, 320 wide throughout. sd15real: the real SD1.5 UNet. sd3deep: three blocks that receive
    image tokens and three that pass them on. sd35: an SD3.5 medium, with a second self attention in its first
    block. `clip_g`: with the CLIP-G that SDXL and SD3 have; SDXL encodes nothing sensible without it.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no checkpoint kind {kind!r}. Choose one of: {', '.join(KINDS)}.")
    parts, joint = Blueprint(), kind in MMDITS
    parts.add("model.diffusion_model.", mmdit(MMDITS[kind]) if joint else unet(UNETS[kind]))
    clip_l_at, clip_g_at = PREFIXES["sd3" if joint else "sdxl" if "num_classes" in UNETS[kind] else "sd15"]
    if clip_l:
        parts.add(clip_l_at, clip_l_text())
    if clip_g:  # in fp8, which saves 0.7 GB and loads as fast as fp16
        parts.add(clip_g_at, (clip_g_text() if joint else open_clip_g_text()).with_matrices(torch.float8_e4m3fn))
    parts.add("first_stage_model.", taesd(latent=16 if joint else 4))
    return parts


def unet(settings: Mapping) -> Blueprint:
    """A latent diffusion UNet with these settings, in the original (not diffusers') names."""
    import_comfyui()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return described(UNetModel, **UNET, **settings)


def mmdit(settings: Mapping) -> Blueprint:
    """An SD3 transformer, whose width and heads follow from its depth."""
    import_comfyui()
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    sizes = {"in_features": 4096, "out_features": HEAD * settings["depth"]}
    context = {"context_embedder_config": {"target": "torch.nn.Linear", "params": sizes}}
    parts = described(MMDiT, **MMDIT, **context, **settings, operations=comfy.ops.disable_weight_init)
    parts.put("pos_embed", *parts["pos_embed"].shape, spread=0.1)
    return parts


def controlnet(settings: Mapping) -> Blueprint:
    """ComfyUI's ControlNet for a UNet of these settings, of which it has the way down and the middle."""
    import_comfyui()
    from comfy.cldm.cldm import ControlNet

    return described(ControlNet, hint_channels=3, **UNET, **settings)


def lora(settings: Mapping) -> Blueprint:
    """Two thin matrices for each query and value of a UNet's attentions."""
    parts = Blueprint()
    for name, weight in unet(settings).items():
        if name.endswith((".to_q.weight", ".to_v.weight")):
            wide_out, wide_in = weight.shape
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            parts.linear(f"{stem}.lora_down", wide_in, LORA_RANK, bias=False)
            parts.linear(f"{stem}.lora_up", LORA_RANK, wide_out, bias=False, gain=0.1)
            parts.constant(f"{stem}.alpha", LORA_RANK)
    return parts


def cross_attention_widths(settings: Mapping) -> list[int]:
    """The widths of a UNet's cross attentions in diffusers' order: down, up, middle."""
    widths = {name: weight.shape[0] for name, weight in unet(settings).items() if name.endswith(".attn2.to_k.weight")}
    ways = ("input_blocks.", "output_blocks.", "middle_block.")
    return [width for way in ways for name, width in widths.items() if name.startswith(way)]


def joint_block_widths(settings: Mapping) -> list[int]:
    """The widths of an MMDiT's blocks that receive image tokens: every second one, from the first."""
    return [HEAD * settings["depth"]] * len(range(0, settings["depth"], 2))
