"""How image tokens enter each kind of denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..families import Family
from ..layers import Layer
from . import mmdit, unet
from .own_model import OwnModel
from .run import ActingAdapter, BatchRows
from .sites import Site, SiteKey, attn2_layers, attn2_sites, check_attn2_open, joint_layers, model_family


@dataclass(frozen=True)
class Entrance:
    """One kind of denoiser.

    is_met_by: whether a model's denoiser is of this kind.
    sites: where its adapters act, in the adapter's order.
    check_open: raises ValueError where other nodes have left sites of a model no way in.
    layers: where each of the sites stands in the model.
    notes: what a user should know of a model that fits, in words.
    first_layer: what every evaluation of the model begins with.
    embed: image tokens as the sites' projections take them, given the model and its compute dtype.
    replaces: where in the host's patches_replace its sites are. patch: what acts at one site, made of the site, the
        adapters, the rows of the call, and what another pack has put there, or None.
    """

    kind: str
    is_met_by: Callable[[OwnModel], bool]
    sites: Callable[[OwnModel], list[Site]]
    check_open: Callable[[OwnModel, Iterable[Site]], None]
    layers: Callable[[Sequence[SiteKey]], list[Layer]]
    notes: Callable[[OwnModel], tuple[str, ...]]
    first_layer: Callable[[nn.Module], nn.Module]
    embed: Callable[[nn.Module, Tensor, torch.dtype], Tensor]
    replaces: str
    patch: Callable[[SiteKey, tuple[ActingAdapter, ...], BatchRows, Callable | None], Callable]

    def patched(self, transformer_options: dict, adapters: tuple[ActingAdapter, ...], rows: BatchRows) -> dict:
        """A copy of `transformer_options` for one model call, with the adapters acting on its rows at their sites.

        Whatever already replaces a site, by its whole key or the first two parts of it, goes on working inside.
        """
        replacements = transformer_options.get("patches_replace", {})
        others = replacements.get(self.replaces, {})
        acting: dict[SiteKey, list[ActingAdapter]] = {}
        for adapter in adapters:
            for site in adapter.sites:
                acting.setdefault(site, []).append(adapter)
        ours = {
            site: self.patch(site, tuple(own), rows, others.get(site, others.get(site[:2])))
            for site, own in acting.items()
        }
        return {**transformer_options, "patches_replace": {**replacements, self.replaces: {**others, **ours}}}


UNET = Entrance(
    kind="UNet",
    is_met_by=lambda model: hasattr(model.denoiser, "input_blocks"),
    sites=attn2_sites,
    check_open=check_attn2_open,
    layers=attn2_layers,
    notes=lambda model: (),
    first_layer=lambda model: model.input_blocks[0][0],
    embed=lambda model, image_tokens, dtype: image_tokens,
    replaces="attn2",
    patch=unet.CrossAttentionPatch,
)
MMDIT = Entrance(
    kind="MMDiT",
    is_met_by=lambda model: hasattr(model.denoiser, "joint_blocks"),
    sites=mmdit.joint_sites,
    check_open=lambda model, sites: None,
    layers=joint_layers,
    notes=mmdit.joint_notes,
    first_layer=lambda model: model.x_embedder,
    embed=mmdit.embed_tokens,
    replaces="dit",
    patch=mmdit.JointBlockPatch,
)
ENTRANCES = (UNET, MMDIT)


def entrance_of(family: Family) -> Entrance:
    """The kind of denoiser that a family's base model is."""
    return MMDIT if family.joint_attention else UNET


def block_layers(family: Family, sites: Sequence[SiteKey]) -> dict[SiteKey, int]:
    """The layer's number for each block, the first two parts of its sites' keys."""
    return {site[:2]: layer.group for site, layer in zip(sites, entrance_of(family).layers(sites), strict=True)}


def family_of_model(model: OwnModel) -> Family | None:
    """The family whose adapters a model takes, or None when there is none."""
    kinds = (entrance for entrance in ENTRANCES if entrance.is_met_by(model))
    return next((model_family(entrance.sites(model)) for entrance in kinds), None)
