"""Beside nodes that put modules of their own into the model, as layer diffusion's attention sharing does.

All clones of a model share its modules, so what another clone has put there is in sight until that clone is unloaded.
"""

import copy

import comfy.model_management as mm
import pytest
import torch
from ipadapter_instruct.models.denoisers.site_checks import family_of_sites
from ipadapter_instruct.models.guidance.layer_weights import LayerWeights
from ipadapter_instruct.models.training.frozen_base import FrozenBase
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from support import small_models, small_training
from support import small_plain_adapters as plain
from support.other_nodes.with_other_node import CHAINS, agree, applied_with
from support.refusals import refused
from support.sampling.counting import rows
from support.sampling.scenes import Scene
from support.sampling.short_runs import close, same, sample
from torch import nn

BLOCKS = ("input_blocks.1.1", "input_blocks.2.1", "middle_block.1")
FAMILIES = ("sd15", "sdxl", "sd3")
ORDERS = ("before", "after")


class Sharing(nn.Module):
    """Has another attention compute, which it hides, and has no layers itself."""

    def __init__(self, hidden: nn.Module):
        super().__init__()
        self.hidden = [hidden]

    def forward(self, *args, **kwargs):
        return self.hidden[0](*args, **kwargs) * 0.9


class Scaled(Sharing):
    """Shows the layers of the attention that it hides."""

    def __getattr__(self, name: str):
        return getattr(self.hidden[0], name) if name.startswith("to_") else super().__getattr__(name)


class Around(nn.Module):
    """Runs a whole block with all that it is given."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs):
        return self.block(*args, **kwargs)


class Apart(Around):
    """Leaves the options out, in which the host tells a block what acts in it."""

    def forward(self, *args, transformer_options=None, **kwargs):
        args = tuple(arg for arg in args if not isinstance(arg, dict))
        return self.block(*args, **kwargs)


def put(made, *paths: str):
    """A node that replaces modules of the denoiser by what is `made` of them."""

    def node(model):
        model = model.clone()
        for path in paths:
            path = f"diffusion_model.{path}"
            model.add_object_patch(path, made(model.get_model_object(path)))
        return model

    return node


def attentions(made, *names: str):
    return put(made, *(f"{block}.transformer_blocks.0.{name}" for block in BLOCKS for name in names))


def block_of(family: str) -> str:
    if family == "sd3":
        return "joint_blocks.0"
    return small_training.frozen_base(family).sites[0].path.removeprefix("diffusion_model.")


layer_diffusion = attentions(Sharing, "attn1", "attn2")


@pytest.fixture
def bare():
    yield small_models.small_model("sd15")
    mm.unload_all_models()


@pytest.fixture(scope="module")
def family() -> str:
    return "sd15"


# Other clones


def in_sight(model, other):
    """`model`, while what the node `other` puts into a clone of it stands in the modules that they share."""
    sample(other(model))
    return model


def test_the_plain_model_goes_on_after_a_run_with_layer_diffusion(bare, embeds):
    expected, plain_picture = sample(small_models.applied(bare, embeds)), sample(bare)
    same(sample(small_models.applied(in_sight(bare, layer_diffusion), embeds)), expected)
    same(sample(in_sight(bare, layer_diffusion)), plain_picture)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_that_another_clone_replaces_are_not_read(family):
    model, embeds = small_models.small_model(family), small_models.golden_embeds(family)
    expected = sample(small_models.applied(model, embeds))
    same(sample(small_models.applied(in_sight(model, put(Apart, block_of(family))), embeds)), expected)


def test_a_denoiser_that_another_clone_replaces_is_not_read(bare, embeds):
    expected = sample(small_models.applied(bare, embeds))
    same(sample(small_models.applied(in_sight(bare, lambda m: whole(m, Around)), embeds)), expected)


def whole(model, made):
    model = model.clone()
    denoiser = made(model.get_model_object("diffusion_model"))
    denoiser.dtype = torch.float32
    model.add_object_patch("diffusion_model", denoiser)
    return model


def test_a_lora_acts_while_another_clone_hides_what_it_changes(bare):
    embeds = plain.embeds(plain.adapter("faceid"))
    expected = sample(plain.applied(bare, embeds))
    patched = plain.applied(in_sight(bare, layer_diffusion), embeds)
    same(sample(patched), expected)
    with_layers, again = sample(layer_diffusion(bare)), sample(layer_diffusion(bare))
    same(with_layers, again)


def test_an_apply_leaves_what_another_clone_has_put_into_the_model(bare):
    in_sight(bare, layer_diffusion)
    before = {name: type(module) for name, module in bare.model.named_modules()}
    plain.applied(bare, plain.embeds(plain.adapter("faceid")))
    assert {name: type(module) for name, module in bare.model.named_modules()} == before


def test_training_reads_nothing_of_another_clone(bare):
    expected = FrozenBase(bare, small_models.FAMILIES["sd15"].family)
    drawn = from_scratch(expected, Shape(width=64, blocks=2), 0)
    other = layer_diffusion(bare)
    name = "diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    other.add_patches({name: (torch.ones(128, 96),)})
    other.add_object_patch("model_sampling", copy.deepcopy(bare.model.model_sampling))
    other.object_patches["model_sampling"].set_sigmas(torch.linspace(0.1, 3.0, 1000))
    sample(other)
    base = FrozenBase(bare, small_models.FAMILIES["sd15"].family)
    assert base.sites == expected.sites
    assert family_of_sites("UNet", base.sites) is family_of_sites("UNet", expected.sites)
    same(base.noise_levels(torch.tensor([0.2, 0.9])), expected.noise_levels(torch.tensor([0.2, 0.9])))
    again = from_scratch(base, Shape(width=64, blocks=2), 0)
    for tensor_name, tensor in drawn.items():
        same(again[tensor_name], tensor)


# This clone


def weakened(forward):
    return lambda *args, **kwargs: forward(*args, **kwargs) * 0.9


CLOSED = {
    "layer diffusion": (attentions(Sharing, "attn2"), (f"the Sharing (of {__name__})", ".attn2")),
    "one that shows layers": (attentions(Scaled, "attn2"), (f"the Scaled (of {__name__})", ".attn2")),
    "a forward": (attentions(weakened, "attn2.forward"), ("the function", ".attn2.forward")),
}


@pytest.mark.parametrize("case", CLOSED)
@pytest.mark.parametrize("order", ORDERS)
def test_an_attention_without_a_way_in_is_named_before_the_model_runs(bare, embeds, case, order):
    other, parts = CLOSED[case]
    bare_picture = sample(other(bare))

    def run():
        refused(lambda: sample(applied_with(other, order, bare, embeds)), *parts, "no way in", "Bypass")

    assert rows(bare, run) == []
    same(sample(other(bare)), bare_picture)


@pytest.mark.parametrize("case", CLOSED)
@pytest.mark.parametrize("order", ORDERS)
def test_with_weight_0_it_is_the_model_with_the_other_node(bare, embeds, case, order):
    other, _ = CLOSED[case]
    expected = sample(other(bare))
    same(sample(applied_with(other, order, bare, embeds, weight=0.0)), expected)


@pytest.mark.parametrize("order", ORDERS)
def test_the_adapter_acts_beside_an_attention_that_it_leaves_out(bare, embeds, order):
    """The middle block is layer 6 of the small model, too: it has as many as SD1.5."""
    other = put(Sharing, "middle_block.1.transformer_blocks.0.attn2")
    layers = LayerWeights(own=", ".join(f"{group}: 1" for group in range(16) if group != 6))
    found = sample(applied_with(other, order, bare, embeds, layers=layers))
    assert not torch.allclose(found, sample(other(bare)), atol=0.01)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", CHAINS)
def test_replaced_self_attention_is_no_hindrance(mode, order):
    agree(Scene(links=CHAINS[mode]), attentions(Sharing, "attn1"), order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_acts_in_blocks_that_run_with_what_they_are_given(family, order):
    model, embeds = small_models.small_model(family), small_models.golden_embeds(family)
    other = put(Around, block_of(family))
    same(sample(applied_with(other, order, model, embeds)), sample(small_models.applied(model, embeds)))


@pytest.mark.parametrize("order", ORDERS)
def test_an_attention_of_the_same_class_is_acted_in(bare, embeds, order):
    def changed(attention):
        attention = copy.deepcopy(attention)
        attention.to_k.weight.data *= 1.5
        return attention

    model = small_models.small_model("sd15")
    for block in BLOCKS:
        model.model.get_submodule(f"diffusion_model.{block}.transformer_blocks.0.attn2").to_k.weight.data *= 1.5
    expected = sample(small_models.applied(model, embeds))
    same(sample(applied_with(attentions(changed, "attn2"), order, bare, embeds)), expected)


@pytest.mark.parametrize("path", ["middle_block.1.transformer_blocks.0", "middle_block.1.transformer_blocks.0.attn2"])
def test_compiled_modules_are_acted_in(bare, embeds, path):
    compiled = put(lambda module: torch.compile(module, backend="eager"), path)
    close(sample(small_models.applied(compiled(bare), embeds)), sample(small_models.applied(bare, embeds)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_that_passes_the_adapter_by_is_named(family, order):
    model, embeds = small_models.small_model(family), small_models.golden_embeds(family)
    other, path = put(Apart, block_of(family)), f"diffusion_model.{block_of(family)}"
    sample(other(model))
    refused(
        lambda: sample(applied_with(other, order, model, embeds)),
        f"the Apart (of {__name__})",
        f"at {path}",
        "passed it by",
    )


@pytest.mark.parametrize("order", ORDERS)
def test_a_lora_whose_layers_are_replaced_is_refused_by_name(bare, order):
    other, embeds = attentions(Sharing, "attn1"), plain.embeds(plain.adapter("faceid"))

    def picture(lora_strength: float = 1.0):
        prepare, change = (other, lambda m: m) if order == "before" else (lambda m: m, other)
        return sample(change(plain.applied(prepare(bare), plain.of_strength(embeds, lora_strength))))

    refused(picture, "The LoRA in small-faceid.safetensors", "attn1", "the Sharing", "set lora_strength to 0")
    assert picture(lora_strength=0.0).isfinite().all()
