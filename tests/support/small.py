"""Small real ComfyUI models and adapters, made of a golden case's weights. Everything is float32 on the CPU."""

from __future__ import annotations

import comfy.model_base
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
from golden_cases import GoldenCase, golden_case
from ipadapter_instruct.models.branches import Branches
from ipadapter_instruct.models.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.families import SD15, SDXL
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.embeds import InstructEmbeds
from ipadapter_instruct.models.patching.loaded_adapter import LoadedAdapter

FAMILIES = {"sd15": (SD15, comfy.supported_models.SD15), "sdxl": (SDXL, comfy.supported_models.SDXL)}


class SmallModel(comfy.model_base.BaseModel):
    """Takes the pooled text as it stands in the conditioning, at the golden cases' own width."""

    def encode_adm(self, **kwargs):
        return kwargs.get("pooled_output")


def small_model(family: str = "sd15", model_class=SmallModel):
    """A ModelPatcher of the golden case's denoiser."""
    case = golden_case(family)
    config = FAMILIES[family][1]({"dtype": torch.float32})
    config.unet_config.update(case.config["unet_config"])  # after the class's own head width
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


def golden_conditioning(family: str, name: str) -> list:
    """The golden case's text, "positive" or "negative", with its pooled text where the family has one."""
    values = golden_case(family).values
    pooled = values.get(f"pooled.{name}")
    return [[values[f"text.{name}"], {} if pooled is None else {"pooled_output": pooled}]]
