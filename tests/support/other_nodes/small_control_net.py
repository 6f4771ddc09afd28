"""A small ControlNet, and conditions with it."""

from __future__ import annotations

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import torch

import nodes as host_nodes
from support.golden_cases import golden_case


def small_control_net():
    """A ControlNet for the golden case's UNet, of random weights."""
    config = golden_case("sd15").config["unet_config"]
    names = ("image_size", "in_channels", "model_channels", "channel_mult", "num_heads", "context_dim", "legacy")
    depths = ("num_res_blocks", "transformer_depth", "transformer_depth_middle")
    config = {name: config[name] for name in (*names, *depths)}
    model = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, use_spatial_transformer=True, dtype=torch.float32, operations=comfy.ops.manual_cast
    )
    made = torch.Generator().manual_seed(2)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.05, generator=made)
    return comfy.controlnet.ControlNet(
        model.eval(), load_device=torch.device("cpu"), manual_cast_dtype=torch.float32, latent_format=None
    )


def hints(number: int = 1) -> torch.Tensor:
    return torch.rand(number, 128, 192, 3, generator=torch.Generator().manual_seed(3))


def with_control(control, conds) -> tuple[list, list]:
    return host_nodes.ControlNetApplyAdvanced().apply_controlnet(*conds, control, hints(), 0.8, 0.0, 1.0)
