"""Layer weights: a factor for each of a model's attentions, by type or by name."""

import pytest
from ipadapter_instruct.models.denoisers.denoiser import denoiser_of
from ipadapter_instruct.models.families import SD3, SD15, SDXL
from ipadapter_instruct.models.guidance.layer_weights import (
    EASES,
    INPUT,
    MIDDLE,
    OUTPUT,
    PARTS,
    SCALINGS,
    TABLE_NAMES,
    TABLES,
    WEIGHT_TYPES,
    Layer,
    LayerFactor,
    LayerWeights,
    layer_factors,
    parse_layers,
)
from ipadapter_instruct.models.messages import LONGEST_LIST


def numbered(groups: dict[str, list[int]]) -> list[Layer]:
    """part -> how many layers each of its groups has, in the order in which the model runs them."""
    flat = [(part, layers) for part, counts in groups.items() for layers in counts]
    return [Layer(group, number, part) for group, (part, layers) in enumerate(flat) for number in range(layers)]


# The published models' own.
LAYERS = {
    SD15: numbered({INPUT: [1] * 6, MIDDLE: [1], OUTPUT: [1] * 9}),
    SDXL: numbered({INPUT: [2, 2, 10, 10], MIDDLE: [10], OUTPUT: [10, 10, 10, 2, 2, 2]}),
    SD3: [Layer(number, 0, (INPUT, MIDDLE, OUTPUT)[number // 4]) for number in range(12)],
}


def by_group(family, weights: LayerWeights) -> list[float]:
    """The factor of each group, whose layers must agree."""
    factors = {}
    for layer, found in zip(LAYERS[family], layer_factors(weights, family, LAYERS[family]), strict=True):
        assert factors.setdefault(layer.group, found.factor) == found.factor
    return [factors[group] for group in sorted(factors)]


@pytest.mark.parametrize("family", LAYERS, ids=lambda family: family.name)
def test_linear_is_1_everywhere(family):
    assert set(layer_factors(LayerWeights(), family, LAYERS[family])) == {LayerFactor()}


@pytest.mark.parametrize("family, count", [(SD15, 16), (SDXL, 11), (SD3, 12)], ids=["sd15", "sdxl", "sd3"])
def test_eases_rise_fall_or_turn_in_the_middle_of_the_depth(family, count):
    ease_in, ease_out, in_out, reverse = (by_group(family, LayerWeights(ease)) for ease in EASES)
    assert (ease_in[0], ease_out[0], reverse[0]) == pytest.approx((1.0, 0.05, 1.0))
    assert in_out[0] == pytest.approx(0.05)
    assert ease_in == sorted(ease_in, reverse=True) and ease_out == sorted(ease_out)
    assert in_out.index(max(in_out)) == reverse.index(min(reverse)) == count // 2
    for one, other in ((ease_in, ease_out), (in_out, reverse)):
        assert [first + second for first, second in zip(one, other, strict=True)] == pytest.approx([1.05] * count)


WEAK_PARTS = {
    "weak input": {INPUT},
    "weak output": {OUTPUT},
    "weak middle": {MIDDLE},
    "strong middle": {INPUT, OUTPUT},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", LAYERS, ids=lambda family: family.name)
def test_parts_are_weak_or_1(family, part):
    found = layer_factors(LayerWeights(part), family, LAYERS[family])
    assert [one.factor for one in found] == [0.2 if layer.part in WEAK_PARTS[part] else 1.0 for layer in LAYERS[family]]


@pytest.mark.parametrize("family", [SD15, SDXL], ids=["sd15", "sdxl"])
def test_style_and_composition_share_no_layer_and_are_both_in_the_type_of_both(family):
    names = ("style transfer", "composition", "style and composition")
    style, composition, both = (by_group(family, LayerWeights(name)) for name in names)
    assert not any(one and other for one, other in zip(style, composition, strict=True))
    assert both == [one + other for one, other in zip(style, composition, strict=True)]


@pytest.mark.parametrize("family, expected", [(SD15, {4: 0.25, 5: 1.0}), (SDXL, {3: 1.0})], ids=["sd15", "sdxl"])
def test_composition_lies_in_the_groups_that_people_know(family, expected):
    """Source: cubiq/ComfyUI_IPAdapter_plus@b103c674, IPAdapterPlus.py, `ipadapter_execute`."""
    found = enumerate(by_group(family, LayerWeights("composition")))
    assert {group: factor for group, factor in found if factor} == expected


@pytest.mark.parametrize("name", TABLE_NAMES)
@pytest.mark.parametrize("family", [SD15, SDXL], ids=["sd15", "sdxl"])
def test_only_the_precise_types_act_on_the_negative(family, name):
    found = layer_factors(LayerWeights(name), family, LAYERS[family])
    moved = {layer.group for layer, one in zip(LAYERS[family], found, strict=True) if one.on_negative}
    composition = {SD15: {4, 5}, SDXL: {3}}[family]
    everything = {layer.group for layer in LAYERS[family]}
    expected = {"style transfer precise": composition, "composition precise": everything - composition}
    assert moved == expected.get(name, set())


# Lists of one's own


def test_layers_that_are_not_named_do_nothing():
    found = by_group(SD15, LayerWeights(own="3: 1, 6: 0.5"))
    assert found == [0, 0, 0, 1, 0, 0, 0.5, *[0] * 9]


def test_a_layer_of_its_own_overrules_its_group_in_any_order():
    for text in ("6: 0.5, 6.2: 0, 6.9: 2", "6.9: 2; 6.2: 0\n6: 0.5"):
        found = parse_layers(text, LAYERS[SDXL])
        assert [found[Layer(6, n, OUTPUT)] for n in range(10)] == [0.5, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 2]
        assert not any(factor for layer, factor in found.items() if layer.group != 6)


def test_a_list_takes_the_place_of_the_types_factors_but_not_of_what_is_precise():
    own = "3: 0.5, 6: -1"
    plain = layer_factors(LayerWeights("composition", own), SDXL, LAYERS[SDXL])
    assert plain == layer_factors(LayerWeights(own=own), SDXL, LAYERS[SDXL])
    precise = layer_factors(LayerWeights("style transfer precise", own), SDXL, LAYERS[SDXL])
    assert [one.factor for one in precise] == [one.factor for one in plain]
    assert [one.on_negative for one in precise] == [layer.group == 3 for layer in LAYERS[SDXL]]


@pytest.mark.parametrize("family, name", [(SD15, "16"), (SD15, "0.1"), (SDXL, "11"), (SDXL, "0.2"), (SD3, "12")])
def test_unknown_layers_are_refused_by_name(family, name):
    last = max(layer.group for layer in LAYERS[family])
    with pytest.raises(ValueError, match=f"layers from 0 to {last}, .* '{name}' is none of this model's"):
        layer_factors(LayerWeights(own=f"0: 1, {name}: 1"), family, LAYERS[family])


@pytest.mark.parametrize("text", ["3", "3: strong", "3:", "3: nan", "3: -inf", "3: 1: 2"])
def test_what_is_no_factor_is_refused(text):
    with pytest.raises(ValueError, match=f"layers with factors, .*; it is '1: 1, {text}'. Correct it"):
        parse_layers(f"1: 1, {text}", LAYERS[SD15])


def test_a_list_too_long_to_be_meant_is_refused():
    with pytest.raises(ValueError, match="^layer_weights was expected to hold at most"):
        parse_layers("1" * (LONGEST_LIST + 1), LAYERS[SD15])


# What a family does not have


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_sd3_refuses_types_whose_layers_nobody_has_looked_for(name):
    with pytest.raises(ValueError, match=f"weight_type {name} is known for SD1.5 and SDXL"):
        layer_factors(LayerWeights(name), SD3, LAYERS[SD3])


@pytest.mark.parametrize("scaling", SCALINGS[1:])
def test_sd3_refuses_scalings_of_keys(scaling):
    with pytest.raises(ValueError, match="Choose V only"):
        layer_factors(LayerWeights(scaling=scaling), SD3, LAYERS[SD3], denoiser_of(SD3).scalings)


@pytest.mark.parametrize("weights", [LayerWeights("strong"), LayerWeights(scaling="Q")])
def test_unknown_choices_are_refused(weights):
    name = "weight_type" if weights.weight_type == "strong" else "scaling"
    with pytest.raises(ValueError, match=f"^{name} was expected to be one of"):
        layer_factors(weights, SD15, LAYERS[SD15])


def test_there_are_as_many_types_as_are_named_once():
    assert len(set(WEIGHT_TYPES)) == len(WEIGHT_TYPES) == 16


@pytest.mark.parametrize("family", [SD15, SDXL], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("name", TABLE_NAMES)
def test_each_group_has_its_tables_factor_and_the_others_none(family, name):
    groups = range(max(layer.group for layer in LAYERS[family]) + 1)
    assert by_group(family, LayerWeights(name)) == [TABLES[family.name][name].get(group, 0.0) for group in groups]
    assert any(TABLES[family.name][name].values())


@pytest.mark.parametrize("family", [SD15, SDXL], ids=["sd15", "sdxl"])
def test_groups_that_are_named_without_a_factor_count_whole(family):
    groups = range(max(layer.group for layer in LAYERS[family]) + 1)
    assert TABLES[family.name]["strong style and composition"] == dict.fromkeys(groups, 1.0)
    assert set(TABLES[family.name]["style transfer"].values()) == {1.0}
