"""The three families' models and adapters at their published sizes, and a narrow one. Their weights are nothing but
shapes: they cost no memory until something computes with them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import comfy.model_detection
import comfy.model_patcher
import comfy.supported_models
import torch
from comfyhost import checkpoints
from comfyhost.adapters import TOKENS, instruct_adapter
from comfyhost.checkpoints import CHANNELS, cross_attention_widths, joint_block_widths, mmdit, unet
from comfyhost.weights import Blueprint
from ipadapter_instruct.models import families
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.families import Family
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


@dataclass(frozen=True, eq=False)
class Base:
    """A base model and its adapter.

    denoiser: its tensors. config_class: ComfyUI's. site_widths: of the attentions that image tokens enter.
    latent, text_tokens, pooled: of its ordinary use: height and width of the latent, of a 512 or 1024 pixels wide
    picture; the text; the width of the pooled text, if there is one.
    site_linears: how many of the adapter's linear layers run for a site in every model call; the rest, token_linears,
    run once a sampling run.
    layout: what replaces the layout that ComfyUI reads off the tensors.
    """

    family: Family
    denoiser: Blueprint
    config_class: type
    site_widths: tuple[int, ...]
    latent: int
    text_tokens: int = 77
    pooled: int | None = None
    site_linears: int = 0
    token_linears: int = 2
    layout: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.family.title


def with_unet(family: Family, sizes: dict, config_class: type, **ordinary: int) -> Base:
    return Base(family, unet(sizes), config_class, tuple(cross_attention_widths(sizes)), **ordinary)


SD15_UNET = checkpoints.UNETS["sd15real"]
SDXL_UNET = {**checkpoints.UNETS["sdxlfull"], "channel_mult": [1, 2, 4]}
SD3_MMDIT = {"depth": 24}
SD3_POSITIONS = 192

SD15 = with_unet(families.SD15, SD15_UNET, comfy.supported_models.SD15, latent=64)
SDXL = with_unet(families.SDXL, SDXL_UNET, comfy.supported_models.SDXL, latent=128, pooled=1280)
SD3 = Base(
    family=families.SD3,
    denoiser=mmdit(SD3_MMDIT),
    config_class=comfy.supported_models.SD3,
    site_widths=tuple(joint_block_widths(SD3_MMDIT)),
    latent=128,
    text_tokens=154,  # CLIP's 77, then T5's
    pooled=2048,
    site_linears=4,
    token_linears=3,
    layout={"pos_embed_max_size": SD3_POSITIONS, "num_patches": SD3_POSITIONS**2},
)
BASES = (SD15, SDXL, SD3)
SMALL_CHANNELS = 32
SMALL = replace(
    SD15,
    site_widths=tuple(width * SMALL_CHANNELS // CHANNELS for width in SD15.site_widths),
    latent=16,
    layout={"model_channels": SMALL_CHANNELS},
)
SMALL_MMDIT = checkpoints.MMDITS["sd3deep"]
SMALL_SD3 = replace(SD3, denoiser=mmdit(SMALL_MMDIT), site_widths=tuple(joint_block_widths(SMALL_MMDIT)), latent=32)
SIMPLE, THREE_WAY = {"guidance": "simple"}, {"guidance": "three-way"}
FILE_DTYPE = torch.float16


def model(base: Base, dtype: torch.dtype = torch.float16):
    """A ModelPatcher of which only shapes are computed, for free. To ComfyUI it is one on the CPU."""
    patcher = real_model(base, dtype)
    denoiser = patcher.model.diffusion_model
    denoiser.register_forward_pre_hook(move_to_meta, with_kwargs=True)
    denoiser.register_forward_hook(lambda module, args, prediction: torch.zeros_like(prediction, device="cpu"))
    return patcher


def real_model(base: Base, dtype: torch.dtype = torch.float32):
    """A ModelPatcher whose weights hold whatever the memory held."""
    shapes = {name: torch.empty(weight.shape, device="meta") for name, weight in base.denoiser.items()}
    config = base.config_class({**comfy.model_detection.detect_unet_config(shapes, ""), **base.layout})
    config.set_inference_dtype(dtype, None)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(config.get_model({}, device="cpu"), cpu, cpu)


def move_to_meta(denoiser: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    denoiser.to("meta")  # not earlier: ComfyUI first loads the weights, which those on meta cannot be
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))


@functools.cache
def adapter(base: Base, dtype: torch.dtype) -> LoadedAdapter:
    """An adapter with the published resampler, all zeros, read from a file of this dtype."""
    zero = torch.zeros((), dtype=dtype)
    shapes = instruct_adapter(base.family.name, base.site_widths)
    return LoadedAdapter("zeros", recognise({name: zero.expand(weight.shape) for name, weight in shapes.items()}))


def applied(
    patcher, base: Base, settings: dict | None, dtype: torch.dtype = FILE_DTYPE, latents: int = 1, tokens: int = TOKENS
):
    """The model with the adapter, from a file of this dtype, applied; None leaves it bare.

    latents, tokens: how many latents have image tokens of their own, and how many.
    """
    if settings is None:
        return patcher
    image_tokens = Branches(*torch.randn(4, latents, tokens, base.family.context_width))
    embeds = InstructEmbeds(adapter(base, dtype), "", image_tokens)
    return apply_instruct(patcher, embeds, ApplySettings(**settings))[0]


def fill(module: nn.Module) -> None:
    """Give a module that ComfyUI made, and left without values, some that keep what passes through it in size."""
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        else:
            nn.init.constant_(weight, 1.0 if name.endswith("weight") else 0.0)
