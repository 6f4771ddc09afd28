"""Models whose linear layers hold packed weights, or none yet: sizes are the layers', whatever is stored.

The layers are of the makes of ComfyUI_bitsandbytes_NF4 (the weight's quant_state knows the size), ComfyUI-GGUF (its
tensor_shape does) and nunchaku (the layer does, and has no weight). Each computes with the same rounded weights.
"""

from types import SimpleNamespace

import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.quant_ops
import comfy.supported_models
import pytest
import torch
from ipadapter_instruct.models.denoisers.model_view import layer_size
from ipadapter_instruct.models.training.frozen_base import FrozenBase, trainable_family
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from support import small_models, small_training
from support import small_plain_adapters as plain
from support.refusals import refused
from support.sampling.short_runs import close, noise, sample
from torch import Tensor, nn

FAMILIES = ("sd15", "sdxl", "sd3")
CPU = torch.device("cpu")
SHAPE = Shape(width=64, blocks=2)
LEVELS = 7


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers 1 to 15, and what one of them is worth."""
    step = weight.abs().max() / LEVELS
    return (weight / step).round().add(LEVELS + 1).to(torch.uint8), step


def computed(weight: Tensor) -> Tensor:
    """A weight as it is computed with, after rounding."""
    numbers, step = rounded(weight)
    return (numbers.float() - LEVELS - 1) * step


class Packed(nn.Module):
    """Two numbers a byte, in one column."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        numbers, self.step = rounded(linear.weight)
        self.weight = nn.Parameter((numbers.flatten()[::2] * 16 + numbers.flatten()[1::2])[:, None], False)
        self.bias = linear.bias
        self.size = linear.weight.shape

    def unpacked(self, bytes_: Tensor) -> Tensor:
        numbers = torch.stack((bytes_ // 16, bytes_ % 16), dim=-1).view(self.size)
        return (numbers.float() - LEVELS - 1) * self.step

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.unpacked(self.weight), self.bias)


class LikeBitsAndBytes(Packed):
    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        self.weight.quant_state = SimpleNamespace(shape=self.size)


class LikeGGUF(Packed):
    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        self.weight.tensor_shape = self.size


class LikeNunchaku(Packed):
    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        self.out_features, self.in_features = self.size
        self.qweight = self.weight
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.unpacked(self.qweight), self.bias)


MAKES = (LikeBitsAndBytes, LikeGGUF, LikeNunchaku)
NAMES = ("attn2.to_k", "attn2.to_v", "attn1.to_q", "context_embedder", "attn.proj", "attn.qkv")


def with_layers(family: str, make):
    """A small model whose attention's and embedder's linear layers are made anew of what they were."""
    model = small_models.small_model(family)
    denoiser = model.model.diffusion_model
    for name in [name for name, _ in denoiser.named_modules() if name.endswith(NAMES)]:
        parent, _, last = name.rpartition(".")
        setattr(denoiser.get_submodule(parent) if parent else denoiser, last, make(denoiser.get_submodule(name)))
    return model


def in_full(linear: nn.Linear) -> nn.Linear:
    linear.weight.data = computed(linear.weight)
    return linear


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", MAKES)
def test_an_adapter_acts_on_packed_layers_as_on_the_same_weights_in_full(family, make):
    embeds = small_models.golden_embeds(family)
    found, expected = (sample(small_models.applied(with_layers(family, one), embeds)) for one in (make, in_full))
    close(found, expected)


def nameless(linear: nn.Linear) -> nn.Module:
    return Packed(linear)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_layer_that_states_no_size_is_named(family):
    model, embeds = with_layers(family, nameless), small_models.golden_embeds(family)
    parts = ("states its size was expected", f"Packed (of {__name__})", "torch.uint8", "without this quantization")
    refused(lambda: small_models.applied(model, embeds), *parts)


@pytest.mark.parametrize("weight", [None, torch.empty(0, device="meta")])
def test_a_weight_that_is_not_loaded_yet_says_nothing_of_the_size(weight):
    layer = comfy.ops.disable_weight_init.Linear(768, 320, bias=False, device="meta")
    layer.weight = None if weight is None else nn.Parameter(weight)
    assert layer_size(layer) == (320, 768)


def test_a_faces_lora_fits_packed_layers():
    """Whether the layers let a LoRA in is the host's and their maker's affair."""
    embeds, model = plain.embeds(plain.adapter("faceid")), with_layers("sd15", LikeBitsAndBytes)
    assert plain.apply(model, embeds).args


# The host's own quantized layers

FORMATS = [name for name in ("float8_e4m3fn", "nvfp4") if name in comfy.quant_ops.QUANT_ALGOS]
each_format = pytest.mark.parametrize("form", FORMATS)  # NVFP4 stores half as many bytes as it has numbers


def in_format(form: str, linear: nn.Linear) -> comfy.quant_ops.QuantizedTensor:
    layout = comfy.quant_ops.QUANT_ALGOS[form]["comfy_tensor_layout"]
    return comfy.quant_ops.QuantizedTensor.from_float(linear.weight.data, layout)


def host_layer(linear: nn.Linear):
    operations = comfy.ops.mixed_precision_ops({}, torch.float32, full_precision_mm=True)
    return operations.Linear(*reversed(linear.weight.shape), bias=linear.bias is not None)


def quantized(form: str):
    def make(linear: nn.Linear) -> nn.Module:
        layer = host_layer(linear)
        layer.quant_format, layer.layout_type = form, comfy.quant_ops.QUANT_ALGOS[form]["comfy_tensor_layout"]
        layer.weight, layer.bias = nn.Parameter(in_format(form, linear), requires_grad=False), linear.bias
        return layer

    return make


def as_quantized(form: str):
    def make(linear: nn.Linear) -> nn.Linear:
        linear.weight.data = in_format(form, linear).dequantize()
        return linear

    return make


def test_the_hosts_layers_state_their_size_before_they_are_loaded():
    assert layer_size(host_layer(nn.Linear(768, 320, bias=False))) == (320, 768)


@pytest.mark.parametrize("family", FAMILIES)
@each_format
def test_an_adapter_acts_on_the_hosts_quantized_layers_as_on_the_same_weights_in_full(family, form):
    embeds = small_models.golden_embeds(family)
    found, expected = (
        sample(small_models.applied(with_layers(family, make(form)), embeds)) for make in (quantized, as_quantized)
    )
    close(found, expected)


@each_format
def test_a_new_adapter_begins_with_what_the_hosts_quantized_layers_compute_with(form):
    found, expected = (base("sd15", make(form)) for make in (quantized, as_quantized))
    tensors, others = (from_scratch(one, SHAPE, 0) for one in (found, expected))
    for name, tensor in tensors.items():
        close(tensor, others[name])


# Engines


class TrTUnet:
    """A model like ComfyUI_TensorRT's: no module, and nothing inside that can be reached."""

    dtype = torch.float32

    def __call__(self, x, timesteps, context, y=None, control=None, transformer_options=None, **kwargs):
        return x

    def load_state_dict(self, sd, strict=False):
        pass

    def state_dict(self):
        return {}


class Hollow(nn.Module):
    """Has a UNet's lists, with nothing in them."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.input_blocks, self.output_blocks, self.middle_block = nn.ModuleList(), nn.ModuleList(), None


ENGINES = (TrTUnet, Hollow)


def engine(made):
    """Source of the configuration: comfyanonymous/ComfyUI_TensorRT@104998b, tensorrt_loader.py."""
    config = comfy.supported_models.SD15({"disable_unet_model_creation": True})
    model = comfy.model_base.BaseModel(config)
    model.diffusion_model = made()
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


@pytest.mark.parametrize("made", ENGINES)
@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_an_engine_is_named_for_what_it_is(made, family):
    parts = ("This adapter is for", f"{made.__name__} (of {__name__})", "TensorRT", "Load Checkpoint")
    refused(lambda: small_models.applied(engine(made), small_models.golden_embeds(family)), *parts)


@pytest.mark.parametrize("made", ENGINES)
def test_an_engine_is_not_trained_on(made):
    parts = ("SD1.5, SDXL or SD3 was expected", f"{made.__name__} (of {__name__})", "Load Checkpoint")
    refused(lambda: trainable_family(engine(made)), *parts)


# Training


def base(family: str, make) -> FrozenBase:
    return FrozenBase(with_layers(family, make), small_models.FAMILIES[family].family)


@torch.inference_mode(False)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_pass_packed_layers(family):
    """They are the same as with the same weights in full."""
    found = []
    for make in (LikeBitsAndBytes, in_full):
        frozen, adapter = base(family, make), small_training.trainable_adapter(family)
        drawn = small_training.GoldenDataset(family).batch(1, torch.Generator().manual_seed(0))
        with frozen.loaded():
            noises = noise(frozen.patcher, 1, *drawn.latents.shape[-2:])
            frozen.losses(adapter, drawn, noises, frozen.noise_levels(torch.tensor([0.5]))).sum().backward()
        found.append([weight.grad for weight in adapter.parameters() if weight.grad is not None])
    assert found[0]
    for one, expected in zip(*found, strict=True):
        close(one, expected)


def test_a_new_adapter_does_not_start_with_packed_bytes():
    frozen = base("sd15", LikeBitsAndBytes)
    refused(
        lambda: from_scratch(frozen, SHAPE, 0),
        "attn2.to_k is a LikeBitsAndBytes",
        "without this quantization, or begin with an adapter's file",
    )
