"""A ControlNet and a LoRA for a stand-in UNet, in the original (not diffusers') names."""

from __future__ import annotations

from collections.abc import Mapping

from comfyhost.denoisers import UNET, unet
from comfyhost.in_process import import_comfyui
from comfyhost.weights import Blueprint, described

RANK = 4


def controlnet(settings: Mapping) -> Blueprint:
    """ComfyUI's ControlNet for a UNet of these settings, of which it has the way down and the middle."""
    import_comfyui()
    from comfy.cldm.cldm import ControlNet

    return described(ControlNet, hint_channels=3, **UNET, **settings)


def lora(settings: Mapping) -> Blueprint:
    """Two thin matrices for each query and value of the attentions."""
    parts = Blueprint()
    for name, weight in unet(settings).items():
        if name.endswith((".to_q.weight", ".to_v.weight")):
            wide_out, wide_in = weight.shape
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            parts.linear(f"{stem}.lora_down", wide_in, RANK, bias=False)
            parts.linear(f"{stem}.lora_up", RANK, wide_out, bias=False, gain=0.1)
            parts.constant(f"{stem}.alpha", RANK)
    return parts
