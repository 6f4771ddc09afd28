"""The three families' models and adapters at their published sizes, and narrow ones.

Some have weights that are nothing but shapes: they cost no memory until something computes with them. Others are drawn
on the device where ComfyUI samples, and lie where it keeps models that it does not use.
"""

import functools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import comfy.clip_vision
import comfy.model_detection
import comfy.model_management as mm
import comfy.model_patcher
import comfy.supported_models
import torch
from comfyhost import adapters, checkpoints
from comfyhost.adapters import TOKENS, instruct_adapter
from comfyhost.checkpoints import CHANNELS, cross_attention_widths, joint_block_widths, mmdit, unet
from comfyhost.weights import Blueprint, draw_one
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
    layout: what replaces the layout that ComfyUI reads off the tensors. resampler: the sizes of a smaller resampler
    than the published one.
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
    resampler: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.family.title

    @property
    def adapter(self) -> Blueprint:
        return instruct_adapter(self.family.name, self.site_widths, **self.resampler)


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


def narrow(base: Base) -> Base:
    widths = tuple(width * SMALL_CHANNELS // CHANNELS for width in base.site_widths)
    return replace(base, site_widths=widths, latent=16, layout={"model_channels": SMALL_CHANNELS})


SMALL = narrow(SD15)
SMALL_SDXL = narrow(SDXL)
SMALL_MMDIT = checkpoints.MMDITS["sd3deep"]
SMALL_SD3 = replace(SD3, denoiser=mmdit(SMALL_MMDIT), site_widths=tuple(joint_block_widths(SMALL_MMDIT)), latent=32)
NARROW = tuple(replace(base, latent=16, resampler=adapters.SMALL) for base in (SMALL, SMALL_SDXL, SMALL_SD3))
SIMPLE, THREE_WAY = {"guidance": "simple"}, {"guidance": "three-way"}
FILE_DTYPE = torch.float16
VIT_H = Path(comfy.clip_vision.__file__).with_name("clip_vision_config_h.json")


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
    devices = mm.get_torch_device(), mm.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(config.get_model({}, device="cpu"), *devices)


def drawn_model(base: Base, dtype: torch.dtype = torch.float32):
    patcher = real_model(base, dtype)
    fill(patcher.model.diffusion_model)
    return patcher


def move_to_meta(denoiser: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    denoiser.to("meta")  # not earlier: ComfyUI first loads the weights, which those on meta cannot be
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))


@functools.cache
def adapter(base: Base, dtype: torch.dtype) -> LoadedAdapter:
    """An adapter with the published resampler, all zeros, read from a file of this dtype."""
    zero = torch.zeros((), dtype=dtype)
    return LoadedAdapter("zeros", recognise({name: zero.expand(weight.shape) for name, weight in base.adapter.items()}))


def drawn_tensors(blueprint: Blueprint, dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw a file's tensors where ComfyUI computes, as `fill` does."""
    device = mm.get_torch_device()
    return {name: draw_one(weight, None, dtype, device).cpu() for name, weight in blueprint.items()}


def drawn_adapter(base: Base, dtype: torch.dtype = FILE_DTYPE) -> LoadedAdapter:
    return LoadedAdapter("drawn", recognise(drawn_tensors(base.adapter, dtype)))


def applied(
    patcher,
    base: Base,
    settings: dict | None,
    dtype: torch.dtype = FILE_DTYPE,
    latents: int = 1,
    tokens: int = TOKENS,
    loaded: LoadedAdapter | None = None,
):
    """The model with the adapter applied; None for the settings leaves it bare.

    latents, tokens: how many latents have image tokens of their own, and how many. loaded: the adapter, if it is
    not to be one of zeros, from a file of this dtype.
    """
    if settings is None:
        return patcher
    image_tokens = Branches(*torch.randn(4, latents, tokens, base.family.context_width))
    embeds = InstructEmbeds(loaded or adapter(base, dtype), "", image_tokens)
    return apply_instruct(patcher, embeds, ApplySettings(**settings))[0]


def image_encoder(**smaller: int) -> comfy.clip_vision.ClipVisionModel:
    """A ViT-H, or one whose configuration has other numbers."""
    config = {**json.loads(VIT_H.read_text(encoding="utf-8")), **smaller}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config), encoding="utf-8")
        encoder = comfy.clip_vision.ClipVisionModel(path)
    fill(encoder.model)
    return encoder


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Give a module that ComfyUI made, and left without values, some that keep what passes through it in size.

    They are drawn where ComfyUI computes: a full-size model is drawn on a graphics card in a moment.
    """
    device = mm.get_torch_device()
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        if not weight.is_floating_point():
            continue
        if weight.ndim > 1:
            drawn = torch.randn(weight.shape, dtype=weight.dtype, device=device)
            weight.copy_(drawn.mul_(weight[0].numel() ** -0.5))
        else:
            weight.fill_(1.0 if name.endswith("weight") else 0.0)
