"""Small real ComfyUI models and adapters, made of a golden case's weights.

They are sampled where ComfyUI samples, which is the CPU in tests, and in float32 unless another precision is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import comfy.conds
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import ModelType
from ipadapter_instruct.models.adapter.checkpoint import AdapterCheckpoint
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.families import SD3, SD15, SDXL, Family
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.chain import EVERYWHERE, STEADY

from support.golden_cases import GoldenCase, golden_case


@dataclass(frozen=True)
class SmallFamily:
    """The facts of a golden case's denoiser in ComfyUI: configuration class, model type, denoiser class and sizes."""

    family: Family
    config_class: type
    model_type: comfy.model_base.ModelType
    denoiser_class: type
    sizes: Callable[[dict], dict]


def mmdit_sizes(golden: dict) -> dict:
    """The golden page's words for an MMDiT -> ComfyUI's."""
    config = golden["mmdit_config"]
    width = 64 * config["depth"]
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": config["context"], "out_features": width}}
    names = ("depth", "adm_in_channels", "pos_embed_max_size", "in_channels", "patch_size")
    positions = {"input_size": None, "num_patches": config["pos_embed_max_size"] ** 2}
    return {**{name: config[name] for name in names}, "context_embedder_config": embedder, **positions}


def unet_sizes(golden: dict) -> dict:
    return golden["unet_config"]


FAMILIES = {
    "sd15": SmallFamily(SD15, comfy.supported_models.SD15, ModelType.EPS, UNetModel, unet_sizes),
    "sdxl": SmallFamily(SDXL, comfy.supported_models.SDXL, ModelType.EPS, UNetModel, unet_sizes),
    "sd3": SmallFamily(SD3, comfy.supported_models.SD3, ModelType.FLOW, OpenAISignatureMMDITWrapper, mmdit_sizes),
}


class SmallModel(comfy.model_base.BaseModel):
    """Takes the pooled text as it stands in the conditioning, at the golden cases' own width."""

    family: str

    def encode_adm(self, **kwargs):
        return kwargs.get("pooled_output")

    def extra_conds(self, **kwargs):
        conds = super().extra_conds(**kwargs)
        if self.family == "sd3":  # as ComfyUI's SD3: a text is not repeated to the length of another
            conds["c_crossattn"] = comfy.conds.CONDRegular(kwargs["cross_attn"])
        return conds


def small_model(
    family: str = "sd15",
    model_class=SmallModel,
    dtype: torch.dtype = torch.float32,
    compute: torch.dtype | None = None,
    on: torch.device | None = None,
):
    """A ModelPatcher of the golden case's denoiser.

    dtype: of its weights. compute: what they are computed in, None for the same. on: the device; None for ComfyUI's.
    """
    case, small = golden_case(family), FAMILIES[family]
    config = small.config_class({"dtype": dtype})
    config.unet_config = {"dtype": dtype, **small.sizes(case.config)}  # in place of the class's head width
    config.manual_cast_dtype = compute
    model = model_class(config, small.model_type, device="cpu", unet_model=small.denoiser_class)
    model.diffusion_model.load_state_dict(case.base_weights)
    model.family = family
    return comfy.model_patcher.ModelPatcher(model, on or mm.get_torch_device(), torch.device("cpu"))


def small_adapter(family: str = "sd15", change=lambda name, weight: weight) -> LoadedAdapter:
    """The golden case's adapter; `change` may make another one of it."""
    return LoadedAdapter("small.safetensors", small_checkpoint(family, change))


def small_checkpoint(
    family: str = "sd15", change=lambda name, weight: weight, weights: Mapping[str, torch.Tensor] | None = None
) -> AdapterCheckpoint:
    """The golden case's weights, or other ones of its widths, which are not the published ones."""
    weights = golden_case(family).adapter_weights if weights is None else weights
    weights = {name: change(name, weight) for name, weight in weights.items()}
    parts = [
        {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        for prefix in ("image_proj.", "ip_adapter.")
    ]
    parts[0] = {name.replace("_big.", "."): weight for name, weight in parts[0].items()}
    return AdapterCheckpoint(FAMILIES[family].family, *parts)


def golden_tokens(case: GoldenCase, adapter: LoadedAdapter) -> Branches[torch.Tensor]:
    names = ("full", "everything", "image_only", "uncond")
    return Branches(*(adapter.image_tokens(*case.features(name)) for name in names))


@functools.cache
@torch.inference_mode(False)  # kept for later tests, as golden_case is
def shared_adapter_and_tokens(family: str) -> tuple[LoadedAdapter, Branches[torch.Tensor]]:
    """The golden case's adapter and its tokens, made once for all tests, which leave them as they are."""
    adapter = small_adapter(family)
    with torch.no_grad():
        return adapter, golden_tokens(golden_case(family), adapter)


@functools.cache
@torch.inference_mode(False)
def shared_model(family: str, dtype: torch.dtype = torch.float32):
    """The small model, made once for all tests, which leave it as it is."""
    return small_model(family, dtype=dtype)


def golden_embeds(family: str = "sd15", instruction: str = "use the composition") -> InstructEmbeds:
    adapter, tokens = shared_adapter_and_tokens(family)
    return InstructEmbeds(adapter, instruction, tokens)


def apply_settings(
    *, batch_factors=(), three_way_until: float = 1.0, schedule=STEADY, layers=None, **settings
) -> ApplySettings:
    """Apply's settings, with what a schedule holds besides factors over the sampling told by itself."""
    schedule = replace(schedule, batch_factors=tuple(batch_factors), three_way_until=three_way_until)
    return ApplySettings(schedule=schedule, layers=layers or EVERYWHERE, **settings)


def applied(model, embeds: InstructEmbeds, mask=None, **settings):
    """The model with the adapter applied. settings: `apply_settings` takes them."""
    return apply_instruct(model, embeds, apply_settings(**settings), mask)[0]


def golden_conditioning(family: str, name: str) -> list:
    """The golden case's text, "positive" or "negative", with its pooled text where the family has one."""
    values = golden_case(family).values
    pooled = values.get(f"pooled.{name}")
    return [[values[f"text.{name}"], {} if pooled is None else {"pooled_output": pooled}]]
