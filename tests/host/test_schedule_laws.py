"""Laws and costs of weights that change while a picture is sampled. Bit for bit unless a tolerance is given."""

from dataclasses import replace

import comfy.hooks
import pytest
import torch
from comfy_extras import nodes_hooks, nodes_model_advanced
from ipadapter_instruct.models.guidance.layer_weights import LayerWeights
from ipadapter_instruct.models.guidance.weight_schedule import Schedule, noise_position
from ipadapter_instruct.models.patching import run
from ipadapter_instruct.nodes.control.schedule import IPAdapterInstructSchedule
from support import small_models
from support.pack_nodes import run_node
from support.sampling.counting import ATTENTION, Operations, attention_counts, passes
from support.sampling.short_runs import STEPS, close, noise, same, sample

MODES = ["simple", "three-way"]
NOISE = "percent of the schedule"


def schedule(factors: str = "", between: str = "hold", along: str = NOISE, **others) -> Schedule:
    """The node's schedule."""
    own = {"factors": factors, "between": between, "along": along, "batch_factors": "", "three_way_until": 1.0}
    return run_node(IPAdapterInstructSchedule, **{**own, **others}).args[0]


def test_the_node_gives_what_it_is_told_besides_factors_over_the_sampling():
    for source in ({}, {"factors": "1, 0.5"}, {"curve": Curve()}, {"hook_keyframes": keyframes((0.0, 1.0))}):
        made = schedule(batch_factors="1, -0.25", three_way_until=0.6, **source)
        assert (made.batch_factors, made.three_way_until) == ((1.0, -0.25), 0.6)
        assert made == replace(schedule(**source), batch_factors=(1.0, -0.25), three_way_until=0.6)


@pytest.mark.spread("family", "text")
@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize("text", ["1", "0: 1", "0: 1, 0.4: 1, 1: 1"])
def test_a_factor_of_1_is_no_schedule_and_costs_the_attention_nothing(family, bare, embeds, guidance, text):
    plain = small_models.applied(bare, embeds, guidance=guidance)
    constant = small_models.applied(bare, embeds, guidance=guidance, schedule=schedule(text, "linear"))
    same(sample(constant), sample(plain))
    assert attention_counts(constant) == attention_counts(plain)


@pytest.mark.parametrize("guidance", MODES)
def test_a_constant_factor_multiplies_the_weight(bare, embeds, guidance):
    found = small_models.applied(bare, embeds, guidance=guidance, weight=0.8, schedule=schedule("0.5"))
    same(sample(found), sample(small_models.applied(bare, embeds, guidance=guidance, weight=0.4)))


@pytest.mark.parametrize("guidance", MODES)
def test_factors_of_steps_and_of_frames_multiply(bare, embeds, guidance):
    batch, factors = noise(bare, 2, 8, 12), (1.0, -0.25)
    settings = {"guidance": guidance, "schedule": schedule("1, 0.5, 0.25", along="steps")}
    found = sample(small_models.applied(bare, embeds, weight=0.8, batch_factors=factors, **settings), batch)
    apart = [
        sample(small_models.applied(bare, embeds, weight=0.8 * own, **settings), latent[None])
        for own, latent in zip(factors, batch, strict=True)
    ]
    close(found, torch.cat(apart))


def test_more_factors_than_are_kept_change_nothing(bare, embeds, monkeypatch):
    own = schedule("1, 0.5, 0.25", along="steps")
    model, batch = small_models.applied(bare, embeds, batch_factors=(1.0, -0.25), schedule=own), noise(bare, 2, 8, 12)
    expected = sample(model, batch)
    monkeypatch.setattr(run, "MOST_CACHED", 1)
    same(sample(model, batch), expected)


@pytest.mark.parametrize("guidance", MODES)
@pytest.mark.parametrize(
    "text, window", [("0: 0, 0.35: 1", {"start_percent": 0.35}), ("0: 1, 0.6: 0", {"end_percent": 0.6})]
)
def test_factors_of_0_and_1_are_a_window(bare, embeds, guidance, text, window):
    found = small_models.applied(bare, embeds, guidance=guidance, schedule=schedule(text))
    same(sample(found), sample(small_models.applied(bare, embeds, guidance=guidance, **window)))
    assert not torch.allclose(sample(found), sample(small_models.applied(bare, embeds, guidance=guidance)), atol=1e-3)


@pytest.mark.parametrize("guidance", MODES)
def test_a_schedule_of_nothing_but_0_is_the_bare_model(bare, embeds, guidance):
    same(sample(small_models.applied(bare, embeds, guidance=guidance, schedule=schedule("0"))), sample(bare))


@pytest.mark.parametrize("guidance, count", [("simple", 2), ("three-way", 4)])
def test_a_step_of_factor_0_runs_no_image_attention_and_the_bare_passes(family, bare, embeds, guidance, count):
    own = schedule("1, 0, 0.5", along="steps")
    model = small_models.applied(bare, embeds, guidance=guidance, image_scale=0.5, schedule=own)
    assert passes(model) == [count, 2, count]
    assert attention_counts(model)[ATTENTION] == 2 * len(embeds.adapter.projections.widths)


def test_a_step_of_factor_0_in_between_is_the_bare_models(bare, embeds):
    model = small_models.applied(bare, embeds, guidance="three-way", schedule=schedule("0, 1, 1", along="steps"))
    same(sample(model, last_step=1), sample(bare, last_step=1))


def test_each_adapter_of_a_chain_has_its_schedule(bare, embeds):
    texts = ("1, 0.5, 0", "0, 0.5, 1")
    first, second = ({"guidance": "simple", "weight": 0.6, "schedule": schedule(t, along="steps")} for t in texts)
    both = small_models.applied(small_models.applied(bare, embeds, **first), embeds, **second)
    close(sample(both), sample(small_models.applied(bare, embeds, guidance="simple", weight=0.6)))


# Positions


def patched(node: str, *settings):
    return lambda model: getattr(nodes_model_advanced, node)().patch(model, *settings)[0]


@pytest.mark.parametrize(
    "model",
    [
        patched("ModelSamplingDiscrete", "v_prediction", False)(small_models.small_model("sd15")),
        patched("ModelSamplingDiscrete", "v_prediction", True)(small_models.small_model("sdxl")),
        patched("ModelSamplingContinuousEDM", "v_prediction", 120.0, 0.002)(small_models.small_model("sdxl")),
        patched("ModelSamplingSD3", 1.5)(small_models.small_model("sd3")),
        patched("ModelSamplingFlux", 1.15, 0.5, 1024, 1024)(small_models.small_model("sd3")),
        *map(small_models.small_model, small_models.FAMILIES),
    ],
    ids=["v", "zero terminal SNR", "EDM", "shift", "flux", *small_models.FAMILIES],
)
def test_a_position_is_the_percentage_whose_noise_level_it_has(model):
    percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    for percent in (0.01, 0.1, 0.25, 1 / 3, 0.5, 0.77, 0.9, 0.99):
        assert noise_position(percent_to_sigma, percent_to_sigma(percent)) == pytest.approx(percent, abs=1e-5)
    assert noise_position(percent_to_sigma, 1e9) == 0.0
    assert noise_position(percent_to_sigma, 0.0) == pytest.approx(1.0, abs=1e-5)


# What else a schedule may be made of


def keyframes(*pairs: tuple[float, float]) -> comfy.hooks.HookKeyframeGroup:
    group = None
    for start, strength in pairs:
        (group,) = nodes_hooks.CreateHookKeyframe().create_hook_keyframe(strength, start, group)
    return group


def interpolated() -> comfy.hooks.HookKeyframeGroup:
    node = nodes_hooks.CreateHookKeyframesInterpolated()
    return node.create_hook_keyframes(1.0, 0.5, "linear", 0.0, 1.0, 3)[0]


@pytest.mark.parametrize(
    "group, text",
    [(keyframes((0.5, 0.25), (0.0, 1.0)), "0: 1, 0.5: 0.25"), (interpolated(), "0: 1, 0.5: 0.75, 1: 0.5")],
)
@pytest.mark.parametrize("layers", [None, LayerWeights(scaling="K+V")], ids=["V only", "K+V"])
def test_hook_keyframes_are_the_text_of_their_strengths(family, bare, embeds, group, text, layers):
    own = None if family == "sd3" else layers
    found, expected = (
        small_models.applied(bare, embeds, guidance="three-way", layers=own, schedule=made)
        for made in (schedule(hook_keyframes=group), schedule(text))
    )
    same(sample(found), sample(expected))


class Curve:
    """With the method of ComfyUI's CurveInput, which the ComfyUI that these tests run on is too old to have."""

    def interp(self, position: float) -> float:
        return 1 - 0.5 * position


@pytest.mark.parametrize("along", [NOISE, "steps"])
def test_a_curve_gives_the_factor_at_every_position(bare, embeds, along):
    own = (schedule(curve=Curve(), along=along), schedule("0: 1, 1: 0.5", "linear", along))
    found, expected = (small_models.applied(bare, embeds, guidance="three-way", schedule=made) for made in own)
    close(sample(found), sample(expected))


@pytest.mark.parametrize(
    "others, message",
    [
        ({"curve": Curve(), "hook_keyframes": keyframes((0.0, 1.0))}, "both are connected. Disconnect one"),
        ({"curve": 3.0}, "A curve of ComfyUI was expected; found float. Connect a curve node, or write factors"),
        ({"hook_keyframes": comfy.hooks.HookKeyframeGroup()}, "expected to hold a keyframe; it holds none. Add one"),
        ({"factors": "strong"}, "A schedule was expected: .*; it is 'strong'. Correct it"),
    ],
)
def test_what_is_no_schedule_is_refused(others, message):
    with pytest.raises(ValueError, match=message):
        schedule(**others)


def test_a_step_reads_its_noise_level_back_once_whoever_asks(bare, embeds):
    def reads(model, steps: int) -> int:
        with Operations() as operations:
            sample(model, last_step=steps)
        return operations.counts["item"]

    settings = {"schedule": schedule("0: 1, 1: 0.5", "linear", "steps"), "start_percent": 0.01, "three_way_until": 0.99}
    model = small_models.applied(
        small_models.applied(bare, embeds, guidance="three-way", **settings), embeds, **settings
    )
    found, without = (reads(m, STEPS) - reads(m, STEPS - 1) for m in (model, small_models.applied(bare, embeds)))
    assert found == without + 1
