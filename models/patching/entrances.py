"""How image tokens enter each kind of denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..families import Family
from . import mmdit, unet
from .run import BatchRows, RunningAdapter
from .sites import Site, attn2_sites


@dataclass(frozen=True)
class Entrance:
    """One kind of denoiser.

    is_met_by: whether a diffusion model is of this kind. sites: where its adapters act, in the adapter's order.
    embed: image tokens as the sites' projections take them, given the model and its compute dtype.
    patched: transformer_options for one model call, with these adapters acting on these rows.
    """

    kind: str
    is_met_by: Callable[[nn.Module], bool]
    sites: Callable[[nn.Module], list[Site]]
    embed: Callable[[nn.Module, Tensor, torch.dtype], Tensor]
    patched: Callable[[dict, Sequence[RunningAdapter], BatchRows], dict]


UNET = Entrance(
    kind="UNet",
    is_met_by=lambda model: hasattr(model, "input_blocks"),
    sites=attn2_sites,
    embed=lambda model, image_tokens, dtype: image_tokens,
    patched=unet.with_image_attention,
)
MMDIT = Entrance(
    kind="MMDiT",
    is_met_by=lambda model: hasattr(model, "joint_blocks"),
    sites=mmdit.joint_sites,
    embed=mmdit.embed_tokens,
    patched=mmdit.with_joint_attention,
)


def entrance_of(family: Family) -> Entrance:
    """The kind of denoiser that a family's base model is."""
    return MMDIT if family.joint_attention else UNET
