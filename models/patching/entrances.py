"""How image tokens enter each kind of denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..families import Family
from . import mmdit, unet
from .run import BatchRows, RunningAdapter
from .sites import Site, attn2_sites, model_family


@dataclass(frozen=True)
class Entrance:
    """One kind of denoiser.

    is_met_by: whether a diffusion model is of this kind. sites: where its adapters act, in the adapter's order.
    notes: what a user should know of a model that fits, in words.
    embed: image tokens as the sites' projections take them, given the model and its compute dtype.
    patched: transformer_options for one model call, with these adapters acting on these rows.
    """

    kind: str
    is_met_by: Callable[[nn.Module], bool]
    sites: Callable[[nn.Module], list[Site]]
    notes: Callable[[nn.Module], tuple[str, ...]]
    embed: Callable[[nn.Module, Tensor, torch.dtype], Tensor]
    patched: Callable[[dict, Sequence[RunningAdapter], BatchRows], dict]


UNET = Entrance(
    kind="UNet",
    is_met_by=lambda model: hasattr(model, "input_blocks"),
    sites=attn2_sites,
    notes=lambda model: (),
    embed=lambda model, image_tokens, dtype: image_tokens,
    patched=unet.with_image_attention,
)
MMDIT = Entrance(
    kind="MMDiT",
    is_met_by=lambda model: hasattr(model, "joint_blocks"),
    sites=mmdit.joint_sites,
    notes=mmdit.joint_notes,
    embed=mmdit.embed_tokens,
    patched=mmdit.with_joint_attention,
)
ENTRANCES = (UNET, MMDIT)


def entrance_of(family: Family) -> Entrance:
    """The kind of denoiser that a family's base model is."""
    return MMDIT if family.joint_attention else UNET


def family_of_model(diffusion_model: nn.Module) -> Family | None:
    """The family whose adapters a diffusion model takes, or None when there is none."""
    kinds = (entrance for entrance in ENTRANCES if entrance.is_met_by(diffusion_model))
    return next((model_family(entrance.sites(diffusion_model)) for entrance in kinds), None)
