"""The denoisers of the stand-in checkpoints: ComfyUI's UNet and MMDiT, in its own names and with its own settings."""

from __future__ import annotations

from collections.abc import Mapping

from comfyhost.in_process import import_comfyui
from comfyhost.weights import Blueprint, described

CHANNELS = 320
HEAD = 64
UNET = {
    **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": CHANNELS, "num_head_channels": HEAD},
    **{"use_spatial_transformer": True, "legacy": False},
}
MMDIT = {"in_channels": 16, "adm_in_channels": 2048, "num_patches": 32 * 32}


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


def cross_attention_widths(settings: Mapping) -> list[int]:
    """The widths of a UNet's cross attentions in diffusers' order: down, up, middle."""
    widths = {name: weight.shape[0] for name, weight in unet(settings).items() if name.endswith(".attn2.to_k.weight")}
    ways = ("input_blocks.", "output_blocks.", "middle_block.")
    return [width for way in ways for name, width in widths.items() if name.startswith(way)]


def joint_block_widths(settings: Mapping) -> list[int]:
    """The widths of an MMDiT's blocks that receive image tokens: every second one, from the first."""
    return [HEAD * settings["depth"]] * len(range(0, settings["depth"], 2))
