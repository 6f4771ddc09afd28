"""The LoRA inside a FaceID file, as ComfyUI applies LoRAs."""

import contextlib
from collections.abc import Iterator, Mapping

import comfy.lora
import comfy.utils

from ..denoisers.denoiser import denoiser_of
from ..denoisers.model_view import DENOISER, ModelView, layer_size
from ..encoding.loaded_adapter import LoadedAdapter
from .chain import Applied

LAYERS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


def add_lora(patched, applied: Applied) -> None:
    """Add the weight patches of an adapter's LoRA to a ModelPatcher that is being made.

    Raises ValueError, before anything is added, for layers that do not fit.
    """
    names = check_lora(applied, ModelView(patched))
    patches = comfy.lora.load_lora(dict(applied.adapter.lora), names)
    with _without_modules_of_clones(patched):
        patched.add_patches(patches, applied.lora_strength)


@contextlib.contextmanager
def _without_modules_of_clones(patched) -> Iterator[None]:
    """Take out of the denoiser what clones have put there, for a while: `add_patches` passes over what it hides."""
    before, put = patched.object_patches_backup, {}
    try:
        for path in reversed([path for path in before if path.split(".")[0] == DENOISER]):  # one may stand in another
            put[path] = comfy.utils.set_attr(patched.model, path, before[path])
        yield
    finally:
        for path, found in reversed(put.items()):
            comfy.utils.set_attr(patched.model, path, found)


def check_lora(applied: Applied, model: ModelView) -> dict[str, str]:
    """Return the names in the model of the weights NUMBER.to_q and the like.

    Raises ValueError unless the model has each of the LoRA's layers, of the same size.
    A file counts self- and cross-attentions together: 2 i is the i-th block's self-attention, 2 i + 1 its
    cross-attention, in the adapter's order of blocks.
    Source: tencent-ailab/IP-Adapter@cfcdf8c, ip_adapter_faceid.py, `set_ip_adapter`.
    """
    adapter = applied.adapter
    blocks = {site.key: site.path for site in denoiser_of(adapter.family).sites(model)}
    names = {
        f"{2 * number + offset}.to_{letter}": f"{blocks[site]}.{attention}.{layer}.weight"
        for number, site in enumerate(applied.layers)
        for offset, attention in enumerate(("attn1", "attn2"))
        for letter, layer in LAYERS.items()
    }
    for layer in sorted({name.rsplit("_lora.", 1)[0] for name in adapter.lora}):
        _check_layer(adapter, layer, names, model)
    return names


def _check_layer(adapter: LoadedAdapter, layer: str, names: Mapping[str, str], model: ModelView) -> None:
    if layer not in names:
        raise ValueError(
            f"The LoRA in {adapter.name} was expected to be for {len(names) // len(LAYERS)} attentions, the "
            f"model's; it has {layer}, which is none of them. Connect {adapter.family.fitting_model}."
        )
    if not model.has_weight(names[layer]):
        place = names[layer].removesuffix(".weight")
        raise ValueError(
            f"The LoRA in {adapter.name} was expected to change {names[layer]}, which is not in the model: "
            f"{model.replaced(place) or 'it is another kind of model'}. Bypass the node that replaces it, connect "
            f"{adapter.family.fitting_model}, or set lora_strength to 0."
        )
    up, down = (adapter.lora[f"{layer}_lora.{part}.weight"] for part in ("up", "down"))
    expected = layer_size(model.at(names[layer].removesuffix(".weight")))
    if expected != (len(up), down.shape[1]):
        raise ValueError(
            f"The LoRA in {adapter.name} was expected to fit the model; its {layer} is for a layer of {len(up)} x "
            f"{down.shape[1]}, the model's is {expected[0]} x {expected[1]}. Connect "
            f"{adapter.family.fitting_model}."
        )
