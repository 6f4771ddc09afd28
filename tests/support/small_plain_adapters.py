"""Small plain adapters of every kind for the golden cases' UNets, and the pack's nodes run with them."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import torch
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.weights import draw
from ipadapter_instruct.models.adapter.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.adapter.kinds import KINDS
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.reference.faces import Faces
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from torch import Tensor

from support import readable_adapters, small_encoders, small_models
from support.pack_nodes import run_node

CONTEXT = {"sd15": 96, "sdxl": 128}
SITES = {
    "sd15": (32, 32, 64, 64, *(128,) * 5, *(64,) * 3, *(32,) * 3, 128),
    "sdxl": (*(64,) * 4, *(128,) * 15, *(64,) * 6, *(128,) * 3),
}
WIDTH, POOLED = 160, 1024  # of the small image encoder
STACK = {"width": 64, "heads": 1, "blocks": 2}
SIZES = {
    "base": Plain("base", image=POOLED),
    "plus": Plain("plus", tokens=8, image=WIDTH, **STACK),
    "full-face": Plain("full-face", image=WIDTH),
    "faceid": Plain("faceid", rank=4),
    "faceid-plus": Plain("faceid-plus", image=WIDTH, rank=4, heads=1, blocks=2),
    "faceid-plus-v2": Plain("faceid-plus", image=WIDTH, rank=4, heads=1, blocks=2),
    "faceid-resampler": Plain("faceid-resampler", tokens=8, image=512, **STACK),
}
WITH_LORA = ("faceid", "faceid-plus", "faceid-plus-v2")
OF_FACES = (*WITH_LORA, "faceid-resampler")
OF_FACES_ALONE = ("faceid", "faceid-resampler")


@functools.cache
@torch.inference_mode(False)
def tensors(kind: str, family: str = "sd15", seed: int = 0) -> dict[str, Tensor]:
    """A small adapter file's, by their published names."""
    sizes = replace(SIZES[kind], token_width=CONTEXT[family])
    if kind.startswith("faceid-plus"):
        sizes = replace(sizes, width=CONTEXT[family])
    return draw(plain_adapter(sizes, SITES[family]), seed, torch.float32)


def adapter(kind: str, family: str = "sd15", seed: int = 0, weights=None) -> LoadedAdapter:
    """An adapter as the loader makes it; built of parts, since no published base model has the golden cases' width."""
    weights = weights or tensors(kind, family, seed)
    own = {prefix: _part(weights, prefix) for prefix in ("image_proj.", "ip_adapter.")}
    lora = {name: tensor for name, tensor in own["ip_adapter."].items() if "_lora." in name}
    attention = {name: tensor for name, tensor in own["ip_adapter."].items() if name not in lora}
    of_kind = next(one for one in KINDS if one.name == kind)
    checkpoint = AdapterCheckpoint(small_models.FAMILIES[family].family, own["image_proj."], attention, of_kind, lora)
    return LoadedAdapter(f"small-{kind}.safetensors", checkpoint)


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


@functools.cache
@torch.inference_mode(False)
def image_encoder():
    """Five places of a picture, the class token's among them: the sizes that adapters of `SIZES` read."""
    return small_encoders.clip_vision(width=WIDTH, layers=2, patches=2)


def images(number: int = 1) -> Tensor:
    return torch.rand(number, 40, 50, 3, generator=torch.Generator().manual_seed(3))


def faces(number: int = 1) -> Faces:
    """Embeddings as a recognition model gives them: not of length 1."""
    return Faces(20 * torch.randn(number, 512, generator=torch.Generator().manual_seed(4)))


def encode(of: LoadedAdapter, number: int = 1, **changes):
    """Encode Instruct Prompt's output for so many references. changes: as `readable_adapters.encode` takes them."""
    face = faces(number) if of.kind.reads_face else None
    given = {"image": images(number), "face": face, "instruction": "use the composition", **changes}
    return readable_adapters.encoded(of, image_encoder(), **given)


def embeds(of: LoadedAdapter, number: int = 1, **changes):
    return encode(of, number, **changes).args[0]


def apply(model, given, **changes):
    """Apply IPAdapter-Instruct's output."""
    inputs = {"weight": 0.8, "guidance": "auto", "instruct_guidance": 2.0, "image_guidance": 0.75}
    return run_node(
        IPAdapterInstructApply,
        **{"model": model, "embeds": given, **inputs, "start_percent": 0.0, "end_percent": 1.0, **changes},
    )


def applied(model, given, **changes):
    return apply(model, given, **changes).args[0]


def of_strength(given: InstructEmbeds, lora_strength: float) -> InstructEmbeds:
    """Embeds of an adapter that was loaded with this strength of its LoRA."""
    adapter = copy.copy(given.adapter)
    adapter.lora_strength = lora_strength
    return replace(given, adapter=adapter)
