"""Small real ComfyUI models and adapters, made of a golden case's weights. Everything is float32 on the CPU."""

from __future__ import annotations

import host  # noqa: F401  (first: it makes comfy importable)

import comfy.model_base
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
from golden_cases import GoldenCase, golden_case
from ipadapter_instruct.models.branches import Branches
from ipadapter_instruct.models.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.families import SD15
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.embeds import InstructEmbeds
from ipadapter_instruct.models.patching.loaded_adapter import LoadedAdapter

FAMILIES = {"sd15": (SD15, comfy.supported_models.SD15)}


def small_model(family: str = "sd15", model_class=comfy.model_base.BaseModel):
    """A ModelPatcher of the golden case's denoiser."""
    case = golden_case(family)
    config = FAMILIES[family][1]({**case.config["unet_config"], "dtype": torch.float32})
    model = model_class(config, device="cpu")
    model.diffusion_model.load_state_dict(case.base_weights)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def small_adapter(family: str = "sd15", change=lambda name, weight: weight) -> LoadedAdapter:
    """The golden case's adapter; `change` may make another one of it."""
    weights = {name: change(name, weight) for name, weight in golden_case(family).adapter_weights.items()}
    parts = [
        {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        for prefix in ("image_proj.", "ip_adapter.")
    ]
    return LoadedAdapter("small.safetensors", AdapterCheckpoint(FAMILIES[family][0], *parts))


def golden_tokens(case: GoldenCase, adapter: LoadedAdapter) -> Branches[torch.Tensor]:
    names = ("full", "everything", "image_only", "uncond")
    return Branches(*(adapter.image_tokens(*case.features(name)) for name in names))


def golden_embeds(family: str = "sd15", instruction: str = "use the composition") -> InstructEmbeds:
    case, adapter = golden_case(family), small_adapter(family)
    return InstructEmbeds(adapter, instruction, golden_tokens(case, adapter))


def applied(model, embeds: InstructEmbeds, mask=None, **settings):
    """The model with the adapter applied."""
    return apply_instruct(model, embeds, ApplySettings(**settings), mask)[0]


def conditioning(text: torch.Tensor, **values) -> list:
    return [[text, values]]
