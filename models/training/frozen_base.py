"""A frozen base model to train an adapter on, through ComfyUI's own classes.

Axes: B pairs, C latent channels, h and w latent sides.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management as mm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..denoisers.denoiser import denoiser_of, family_of_model
from ..denoisers.joint_attention_patch import OVERRIDE
from ..denoisers.model_view import ModelView, Site, class_name
from ..denoisers.rows import BatchRows
from ..denoisers.site_checks import check_reached, doubted_sites
from ..families import Family
from ..guidance.branches import Branch
from .batch import Batch, Conditioning
from .trainable_adapter import TrainableAdapter, TrainingStepAdapter

PIXELS = 8  # a latent's side in pixels
Attention = Callable[..., Tensor]


def plain_attention(function, q: Tensor, k: Tensor, v: Tensor, heads: int, mask=None, **settings) -> Tensor:
    """Compute attention with gradients, in place of the host's functions, some of which have none.

    q, k, v [B, N, D] or [B, N, H, d] -> [B, N, D]; where the host has put heads first (skip_reshape), [B, H, N, d].
    """
    if not settings.get("skip_reshape"):
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out if settings.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)


def trainable_family(model) -> Family:
    """Return the family whose adapters a ModelPatcher takes. Raises ValueError when there is none."""
    view = ModelView(model)
    family = family_of_model(view)
    if family is None:
        raise ValueError(
            f"A model of SD1.5, SDXL or SD3 was expected to train an adapter on; the connected one is {view.title}, "
            f"whose denoiser is a {class_name(view.denoiser)}. Connect one of these, as Load Checkpoint gives it."
        )
    return family


def without_dynamic_loading(model):
    """Return a clone of a ModelPatcher whose weights, once loaded, stay where they are. Raises ValueError without one.

    ComfyUI's dynamic VRAM lends a layer memory for its weights, which is used again before the backward pass reads it.

    Source: ComfyUI 0.33.0, comfy/model_patcher.py: `ModelPatcher.clone`; comfy/ops.py: `cast_bias_weight`.
    """
    if not (hasattr(model, "is_dynamic") and model.is_dynamic()):
        return model.clone()
    if "disable_dynamic" not in inspect.signature(model.clone).parameters or model.cached_patcher_init is None:
        raise ValueError(
            "A model that can be loaded as a whole was expected to train on; ComfyUI moves this one's weights in and "
            "out while it runs (dynamic VRAM), and its loader cannot load it again without that. Load it with Load "
            "Checkpoint or Load Diffusion Model, or start ComfyUI with --disable-dynamic-vram."
        )
    return model.clone(disable_dynamic=True)


class FrozenBase:
    """The denoiser of a ComfyUI ModelPatcher, whose weights are read and never written.

    family: see `trainable_family`. dtype: what it computes in. sampling, latent_format: ComfyUI's.
    attention: what computes the denoiser's attention; see `plain_attention`.
    """

    def __init__(
        self, model, family: Family, dtype: torch.dtype = torch.float32, attention: Attention = plain_attention
    ):
        """Raises ValueError for a model that cannot be loaded as a whole, or whose attention cannot be added to."""
        self.patcher, self.family = without_dynamic_loading(model), family
        self.patcher.set_model_compute_dtype(dtype)
        self.attention, self.dtype = attention, dtype
        self.device: torch.device = self.patcher.load_device
        self.sampling = self.patcher.get_model_object("model_sampling")
        self.latent_format = self.patcher.get_model_object("latent_format")
        denoiser = denoiser_of(self.family)
        self.sites: list[Site] = denoiser.sites(self.view)
        denoiser.check_open(self.view, self.sites)
        self._doubted = doubted_sites(self.view, self.sites)

    @property
    def model(self):
        """ComfyUI's BaseModel."""
        return self.patcher.model

    @property
    def view(self) -> ModelView:
        """The model as it is when it is `loaded`, also before."""
        return ModelView(self.patcher)

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """Hold the whole model on its device, with its LoRAs, fit for forward and backward passes.

        ComfyUI loads models in torch's inference mode, whose tensors autograd refuses; others would gather gradients.
        So meanwhile each weight's memory is seen through another tensor.
        """
        mm.load_models_gpu([self.patcher], force_full_load=True)
        with torch.inference_mode(False), _frozen(self.model):
            yield

    def noise_levels(self, positions: Tensor) -> Tensor:
        """Return the model's noise levels [B] at positions 0..1 of its own schedule."""
        last = self.sampling.timestep(self.sampling.sigma_max.cpu())
        return self.sampling.sigma(positions.cpu() * last).to(positions)

    def losses(self, adapter: TrainableAdapter, batch: Batch, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Return the mean square error of the denoiser's own prediction for each pair, [B].

        That is noise for SD1.5 and SDXL and velocity for SD3, and whatever else a checkpoint of these classes predicts:
        ComfyUI gives what is denoised, which is linear in the prediction.
        noise [B, C, h, w]; sigmas [B].
        """
        level = sigmas[:, None, None, None]
        noisy = self.sampling.noise_scaling(level, noise, batch.latents)
        denoised = self.denoised(adapter, batch.conditioning, noisy, sigmas)
        one, zero = torch.ones_like(level), torch.zeros_like(level)
        of_one, of_zero = (self.sampling.calculate_denoised(sigmas, prediction, zero) for prediction in (one, zero))
        return ((denoised - batch.latents) / (of_one - of_zero)).square().mean((1, 2, 3))

    def denoised(self, adapter: TrainableAdapter, given: Conditioning, noisy: Tensor, sigmas: Tensor) -> Tensor:
        """Denoise latents [B, C, h, w] with the adapter's tokens, by the model, which must be `loaded`."""
        denoiser = denoiser_of(self.family)
        tokens = denoiser.embed(self.model.diffusion_model, adapter.image_tokens(given), self.dtype)
        keys_values = adapter.projections(tokens.float())
        keys = [site.key for site in self.sites]
        acting = TrainingStepAdapter(adapter, dict(zip(keys, keys_values, strict=True)))
        height, width = noisy.shape[-2:]
        rows = BatchRows((Branch.FULL,), (None,), (height, width), (height, width), tuple(range(len(noisy))), set())
        options = denoiser.patched({OVERRIDE: self.attention, "cond_or_uncond": [0]}, (acting,), rows)
        conds = self.model.extra_conds(
            cross_attn=given.context,
            pooled_output=given.pooled_output,
            noise=noisy,
            device=noisy.device,
            width=width * PIXELS,
            height=height * PIXELS,
            prompt_type="positive",
        )
        texts = {name: cond.cond for name, cond in conds.items()}  # as the model's class takes them when it samples
        denoised = self.model.apply_model(noisy, sigmas, transformer_options=options, **texts)
        check_reached(self._doubted, keys, rows.reached)
        return denoised


@contextlib.contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    stores: list[Any] = [store for owner in module.modules() for store in (owner._parameters, owner._buffers)]
    own = [{name: tensor for name, tensor in store.items() if tensor is not None} for store in stores]
    try:
        for store, tensors in zip(stores, own, strict=True):
            store.update({name: _without_gradient(tensor) for name, tensor in tensors.items()})
        yield
    finally:
        for store, tensors in zip(stores, own, strict=True):
            store.update(tensors)


def _without_gradient(tensor: Tensor) -> Tensor:
    if tensor.is_inference():
        empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        tensor = empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return tensor.detach()
