"""Laws and costs of layer weights, on real samplers. Bit for bit unless a tolerance is given."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from ipadapter_instruct.models.guidance.layer_weights import LayerWeights
from ipadapter_instruct.models.patching.run import RUN
from ipadapter_instruct.nodes.control.layer_weights import IPAdapterInstructLayers
from support import small_models
from support.pack_nodes import run_node
from support.sampling.counting import ATTENTION, attention_counts
from support.sampling.short_runs import STEPS, close, same, sample

GROUPS = {"sd15": 16, "sdxl": 11, "sd3": 2}
MODES = ["simple", "three-way"]


def layers(weight_type: str = "linear", layer_weights: str = "", scaling: str = "V only") -> LayerWeights:
    """The node's layer weights."""
    return run_node(
        IPAdapterInstructLayers, weight_type=weight_type, layer_weights=layer_weights, scaling=scaling
    ).args[0]


def all_at(family: str, factor: float) -> LayerWeights:
    return layers(layer_weights=", ".join(f"{group}: {factor}" for group in range(GROUPS[family])))


@pytest.mark.parametrize("guidance", MODES)
def test_linear_is_no_layer_weights_and_costs_nothing(family, bare, embeds, guidance):
    plain, linear = (small_models.applied(bare, embeds, guidance=guidance, layers=own) for own in (None, layers()))
    same(sample(linear), sample(plain))
    assert attention_counts(linear) == attention_counts(plain)


@pytest.mark.parametrize("guidance", MODES)
def test_all_layers_at_1_are_no_layer_weights_and_cost_nothing(family, bare, embeds, guidance):
    plain, own = (
        small_models.applied(bare, embeds, guidance=guidance, layers=own) for own in (None, all_at(family, 1))
    )
    same(sample(own), sample(plain))
    assert attention_counts(own) == attention_counts(plain)


def test_all_layers_at_a_half_are_half_the_weight(family, bare, embeds):
    found = small_models.applied(bare, embeds, guidance="three-way", weight=0.8, layers=all_at(family, 0.5))
    same(sample(found), sample(small_models.applied(bare, embeds, guidance="three-way", weight=0.4)))


@pytest.mark.parametrize("guidance", MODES)
def test_all_layers_at_0_are_the_bare_model(family, bare, embeds, guidance):
    found = small_models.applied(bare, embeds, guidance=guidance, layers=all_at(family, 0))
    same(sample(found), sample(bare))
    assert attention_counts(found)[ATTENTION] == 0


def test_layers_in_two_parts_are_all_of_them(family, bare, embeds):
    half = GROUPS[family] // 2
    parts = [
        layers(layer_weights=", ".join(f"{group}: 1" for group in part))
        for part in (range(half), range(half, GROUPS[family]))
    ]
    settings = {"guidance": "three-way", "weight": 0.7}
    first, second = (small_models.applied(bare, embeds, layers=part, **settings) for part in parts)
    both = small_models.applied(first, embeds, layers=parts[1], **settings)
    same(sample(both), sample(small_models.applied(bare, embeds, **settings)))
    assert not torch.allclose(sample(first), sample(second), atol=1e-3)


@pytest.mark.parametrize("scaling", ["K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty"])
def test_a_scaling_at_weight_0_is_the_bare_model(family, bare, embeds, scaling):
    if family == "sd3":
        pytest.skip("SD3 has none")
    found = small_models.applied(
        bare, embeds, guidance="simple", layers=layers(scaling=scaling), batch_factors=(0.0, 1.0)
    )
    close(sample(found), sample(bare))


def test_a_layer_of_its_own_overrules_its_group(bare, family, embeds):
    if family != "sdxl":
        pytest.skip("only SDXL has several layers in a group")
    by_layer = layers(layer_weights="6.0: 1, 6.1: 1, 6.2: 0.5")
    by_group = layers(layer_weights="6: 1; 6.2: 0.5")
    found, expected = (small_models.applied(bare, embeds, layers=own) for own in (by_group, by_layer))
    same(sample(found), sample(expected))
    assert attention_counts(found)[ATTENTION] == 3 * STEPS
    without = small_models.applied(bare, embeds, layers=layers(layer_weights="6: 1, 6.2: 0"))
    assert attention_counts(without)[ATTENTION] == 2 * STEPS


def kept_sites(model) -> set:
    """The sites whose keys and values a run keeps."""
    seen = set()

    def look(executor, *args, **kwargs):
        (running,) = args[2]["transformer_options"][RUN].adapters
        seen.update(running.of_branches.sites)
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "look", look)
    sample(model, last_step=1)
    return seen


SITES_OF_A_GROUP = {
    "sd15": ("3", {("input", 5, 0)}),
    "sdxl": ("6", {("output", 1, layer) for layer in range(3)}),
    "sd3": ("1", {("double_block", 2)}),
}


def test_a_factor_of_0_drops_the_attention_and_keeps_no_keys_and_values(family, bare, embeds):
    group, sites = SITES_OF_A_GROUP[family]
    model = small_models.applied(bare, embeds, guidance="three-way", layers=layers(layer_weights=f"{group}: 0.5"))
    assert kept_sites(model) == sites
    assert attention_counts(model)[ATTENTION] == len(sites) * STEPS


@pytest.mark.parametrize("weight_type", ["style transfer", "composition", "strong style and composition"])
def test_sd3_refuses_types_that_know_style_and_composition(weight_type):
    with pytest.raises(ValueError, match=f"weight_type {weight_type} is known for SD1.5 and SDXL.*SD3.*Choose another"):
        small_models.applied(
            small_models.small_model("sd3"), small_models.golden_embeds("sd3"), layers=layers(weight_type)
        )


@pytest.mark.parametrize("scaling", ["K+V", "K+V w/ C penalty", r"K+mean(V) w/ C penalty"])
def test_sd3_refuses_scalings_of_keys(scaling):
    with pytest.raises(ValueError, match=r"^scaling K.* was chosen for SD3.*Choose V only"):
        small_models.applied(
            small_models.small_model("sd3"), small_models.golden_embeds("sd3"), layers=layers(scaling=scaling)
        )


@pytest.mark.parametrize("name", ["16", "3.1", "-1", "middle", ""])
def test_layers_that_the_model_does_not_have_are_refused(name):
    with pytest.raises(ValueError, match=f"layers from 0 to 15, .*'{name}' is none of this model's. Correct"):
        small_models.applied(
            small_models.small_model(), small_models.golden_embeds(), layers=layers(layer_weights=f"0: 1, {name}: 1")
        )


@pytest.mark.parametrize("factor", ["", "much", "nan", "inf"])
def test_factors_that_are_no_numbers_are_refused(factor):
    with pytest.raises(ValueError, match="expected to be layers with factors, such as .*; it is '3: .*'. Correct it"):
        small_models.applied(
            small_models.small_model(), small_models.golden_embeds(), layers=layers(layer_weights=f"3: {factor}")
        )
