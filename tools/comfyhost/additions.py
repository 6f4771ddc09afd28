"""A ControlNet and a LoRA for a stand-in UNet, in the original (not diffusers') names."""

from __future__ import annotations

from comfyhost.denoisers import CHANNELS, UNet, unet
from comfyhost.weights import Blueprint

ENCODER_PARTS = ("time_embed.", "input_blocks.", "middle_block.")
HINT_CONVOLUTIONS = ((3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, CHANNELS))
RANK = 4


def controlnet(layout: UNet) -> Blueprint:
    """The way down and the middle of the UNet, with convolutions for the hint and one out of each block."""
    whole = unet(layout)
    parts = Blueprint({name: weight for name, weight in whole.items() if name.startswith(ENCODER_PARTS)})
    for place, (wide_in, wide_out) in enumerate(HINT_CONVOLUTIONS):
        parts.conv(f"input_hint_block.{2 * place}", wide_in, wide_out, 3)
    for block, width in enumerate(skip_widths(layout)):
        parts.conv(f"zero_convs.{block}.0", width, width, 1)
    width = layout.levels[-1] * CHANNELS
    parts.conv("middle_block_out.0", width, width, 1)
    return parts


def skip_widths(layout: UNet) -> list[int]:
    """The width of each input block."""
    widths = [CHANNELS]
    for number, (level, count) in enumerate(zip(layout.levels, layout.res_blocks, strict=True)):
        widths += [widths[-1]] * (number > 0) + [level * CHANNELS] * count
    return widths


def lora(layout: UNet) -> Blueprint:
    """Two thin matrices for each query and value of the attentions."""
    parts = Blueprint()
    for name, weight in unet(layout).items():
        if name.endswith((".to_q.weight", ".to_v.weight")):
            wide_out, wide_in = weight.shape
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            parts.linear(f"{stem}.lora_down", wide_in, RANK, bias=False)
            parts.linear(f"{stem}.lora_up", RANK, wide_out, bias=False, gain=0.1)
            parts.constant(f"{stem}.alpha", RANK)
    return parts
