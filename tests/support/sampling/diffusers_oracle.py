"""The same small random UNet in ComfyUI and in diffusers, whose own loading of IP-Adapters is the oracle.

Source of the oracle: diffusers' `load_ip_adapter`, and peft for the LoRA of FaceID files.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from support import small_models
from support.golden_cases import golden_case

CONTEXT = {"sd15": 768, "sdxl": 2048}
SD15_BLOCKS = {
    "block_out_channels": (32, 64, 128, 128),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "attention_head_dim": 8,
}
SDXL_BLOCKS = {
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 112,
}
BLOCKS = {"sd15": SD15_BLOCKS, "sdxl": SDXL_BLOCKS}


def unet_config(family: str) -> dict:
    return {**golden_case(family).config["unet_config"], "context_dim": CONTEXT[family]}


@functools.cache
@torch.inference_mode(False)
def weights(family: str) -> dict[str, Tensor]:
    """Random, by ComfyUI's names; what passes through a layer keeps its size."""
    generator = torch.Generator().manual_seed(8)
    with torch.device("meta"):
        shapes = {
            name: w.shape for name, w in UNetModel(dtype=torch.float32, **unet_config(family)).state_dict().items()
        }
    made = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator)
        fan_in = shape[1:].numel() if len(shape) > 1 else 0
        made[name] = drawn * fan_in**-0.5 if fan_in else 0.05 * drawn + name.endswith("weight")
    return made


def comfy_model(family: str):
    """A ModelPatcher of it."""
    of_family = small_models.FAMILIES[family]
    config = of_family.config_class({"dtype": torch.float32})
    config.unet_config = {"dtype": torch.float32, **unet_config(family)}
    model = small_models.SmallModel(config, of_family.model_type, device="cpu", unet_model=UNetModel)
    model.diffusion_model.load_state_dict(weights(family))
    model.family = family
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def diffusers_pipeline(family: str):
    """diffusers' pipeline around it, with nothing else."""
    import diffusers

    unet = diffusers.UNet2DConditionModel(cross_attention_dim=CONTEXT[family], **BLOCKS[family]).eval()
    names = comfy.utils.unet_to_diffusers(unet_config(family))
    own = weights(family)
    # ComfyUI's table calls SDXL's label embedding by the name that other UNets have for theirs.
    named = {theirs.replace("class_embedding", "add_embedding"): ours for theirs, ours in names.items()}
    unet.load_state_dict({theirs: own[ours] for theirs, ours in named.items() if ours in own})
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    if family == "sdxl":
        parts = dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
        return diffusers.StableDiffusionXLPipeline(unet=unet, scheduler=diffusers.DDIMScheduler(), **parts)
    options = {"scheduler": diffusers.DDIMScheduler(), "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(unet=unet, **parts, **options)


def with_adapter(family: str, tensors: Mapping[str, Tensor]):
    """The pipeline, into which diffusers has loaded an adapter's tensors, given by their dotted names."""
    pipeline = diffusers_pipeline(family)
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        parts[part][inner] = tensor.clone()
    pipeline.load_ip_adapter(parts, subfolder="", weight_name="", image_encoder_folder=None)
    return pipeline


def predict(pipeline, family: str, latent: Tensor, timestep: int, text: Tensor, extra: dict) -> Tensor:
    """The UNet's prediction of noise; extra: what the adapter reads and, for SDXL, the pooled text with the sizes."""
    added = {"image_embeds": extra["image_embeds"]} if "image_embeds" in extra else {}
    if family == "sdxl":
        # The ComfyUI model takes the whole vector, as this one would make it of a pooled text and six sizes.
        added |= {"text_embeds": extra["pooled"][:, :64], "time_ids": torch.zeros(1, 6)}
    return pipeline.unet(latent, timestep, encoder_hidden_states=text, added_cond_kwargs=added).sample
