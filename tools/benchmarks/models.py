"""SD1.5 models and adapters of any width, and a way into ComfyUI's sampling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import comfy.model_base
import comfy.model_detection
import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfyhost.adapters import instruct_adapter
from comfyhost.checkpoints import SD15
from comfyhost.denoisers import CHANNELS, cross_attention_widths, unet
from comfyhost.weights import draw
from ipadapter_instruct.models.branches import Branches
from ipadapter_instruct.models.checkpoint import recognise
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.embeds import InstructEmbeds
from ipadapter_instruct.models.patching.loaded_adapter import LoadedAdapter
from torch import Tensor, nn

FULL, SMALL = CHANNELS, 32
SIMPLE, THREE_WAY = {"guidance": "simple"}, {"guidance": "three-way"}
SIGMA = 1.0

T = TypeVar("T")


class UNetOnMeta(UNetModel):
    """A UNet of which only shapes are computed, for free. To ComfyUI it is one on the CPU."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, **kwargs) -> Tensor:
        self.to("meta")  # not earlier: ComfyUI first loads the weights, which those on meta cannot be
        prediction = super().forward(x.to("meta"), timesteps.to("meta"), context.to("meta"), **kwargs)
        return torch.zeros(prediction.shape)


def sd15(channels: int, kind: type[UNetModel] = UNetOnMeta, dtype: torch.dtype = torch.float32):
    """A ModelPatcher of SD1.5's UNet at this width (the published one's is 320)."""
    shapes = {name: torch.empty(weight.shape, device="meta") for name, weight in unet(SD15).items()}
    layout = {
        **comfy.model_detection.detect_unet_config(shapes, ""),
        "model_channels": channels,
        "dtype": dtype,
    }
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(layout), device="cpu", unet_model=kind)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@functools.cache
def adapter(channels: int) -> LoadedAdapter:
    """A random adapter with the published resampler, for a UNet of this width."""
    widths = [width * channels // FULL for width in cross_attention_widths(SD15)]
    return LoadedAdapter("random", recognise(draw(instruct_adapter("sd15", widths), 0, torch.float32)))


def applied(model, channels: int, settings: dict | None):
    """The model with the adapter applied; None leaves it bare."""
    if settings is None:
        return model
    embeds = InstructEmbeds(adapter(channels), "", Branches(*torch.randn(4, 1, 16, 768)))
    return apply_instruct(model, embeds, ApplySettings(**settings))[0]


def in_a_run(model, cfg: float, size: int, use: Callable[[Callable, dict], T]) -> T:
    """What `use(step, transformer_options)` returns inside a sampling run of a latent [1, 4, size, size].

    `step()` is one step of ComfyUI's guider, with a positive and a negative of 77 tokens.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({name: [[torch.randn(1, 77, 768), {}]] for name in ("positive", "negative")})
    guider.set_cfg(cfg)
    found = []

    def sampler(denoiser, noise, sigmas, extra_args, callback, disable):
        options = extra_args["model_options"]["transformer_options"]
        found.append(use(lambda: denoiser(noise, torch.tensor([SIGMA]), **extra_args), options))
        return noise

    noise, sigmas = torch.randn(1, 4, size, size), torch.tensor([SIGMA, 0.0])
    guider.sample(noise, torch.zeros_like(noise), comfy.samplers.KSAMPLER(sampler), sigmas)
    return found[0]


@contextmanager
def counted(modules: Iterable[nn.Module]) -> Iterator[list[int]]:
    """One entry for each run of one of these modules: the rows it was given."""
    runs: list[int] = []

    def count(module, args: tuple, kwargs: dict) -> None:
        runs.append(len([*args, *kwargs.values()][0]))

    handles = [module.register_forward_pre_hook(count, with_kwargs=True) for module in modules]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def fill(module: nn.Module) -> None:
    """Give a module that ComfyUI made, and left without values, some that keep what passes through it in size."""
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        else:
            nn.init.constant_(weight, 1.0 if name.endswith("weight") else 0.0)
