"""The LoRA inside a FaceID file, as ComfyUI applies LoRAs."""

from __future__ import annotations

from collections.abc import Mapping

import comfy.lora
from torch import nn

from .loaded_adapter import LoadedAdapter
from .sites import SiteKey, attn2_sites

LAYERS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


def add_lora(patched, adapter: LoadedAdapter, sites: tuple[SiteKey, ...], strength: float) -> None:
    """Add the weight patches of an adapter's LoRA to a ModelPatcher that is being made.

    sites: the adapter's, in its order. Raises ValueError, before anything is added, for layers that do not fit.
    """
    names = lora_layers(sites, patched.get_model_object("diffusion_model"))
    _check_fit(adapter, names, patched)
    patches = comfy.lora.load_lora(dict(adapter.lora), names)
    patched.add_patches(patches, strength)


def lora_layers(sites: tuple[SiteKey, ...], diffusion_model: nn.Module) -> dict[str, str]:
    """NUMBER.to_q and the like -> the weight's name in the model.

    A file counts self- and cross-attentions together: 2 i is the i-th block's self-attention, 2 i + 1 its
    cross-attention, in the adapter's order of blocks.
    Source: tencent-ailab/IP-Adapter@cfcdf8c, ip_adapter_faceid.py, `set_ip_adapter`.
    """
    blocks = {site.key: site.block for site in attn2_sites(diffusion_model)}
    return {
        f"{2 * number + offset}.to_{letter}": f"diffusion_model.{blocks[site]}.{attention}.{layer}.weight"
        for number, site in enumerate(sites)
        for offset, attention in enumerate(("attn1", "attn2"))
        for letter, layer in LAYERS.items()
    }


def _check_fit(adapter: LoadedAdapter, names: Mapping[str, str], patched) -> None:
    """Raises ValueError unless the model has each of the LoRA's layers, of the same size."""
    for layer in sorted({name.rsplit("_lora.", 1)[0] for name in adapter.lora}):
        if layer not in names:
            raise ValueError(
                f"The LoRA in {adapter.name} was expected to be for {len(names) // len(LAYERS)} attentions, the "
                f"model's; it has {layer}, which is none of them. Connect {adapter.family.fitting_model}."
            )
        up, down = (adapter.lora[f"{layer}_lora.{part}.weight"] for part in ("up", "down"))
        expected = tuple(patched.get_model_object(names[layer]).shape[:2])
        if expected != (len(up), down.shape[1]):
            raise ValueError(
                f"The LoRA in {adapter.name} was expected to fit the model; its {layer} is for a layer of {len(up)} x "
                f"{down.shape[1]}, the model's is {expected[0]} x {expected[1]}. Connect "
                f"{adapter.family.fitting_model}."
            )
