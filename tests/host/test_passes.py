"""The passes of the model in a step, where guidance may leave out a pass, and that no picture changes by it.

Expected are the pictures of simple and of three-way guidance.
"""

import comfy.sample
import pytest
import torch
from comfy_extras import nodes_pag
from ipadapter_instruct.models.guidance.weight_schedule import Schedule
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct, resolve
from support import small_models
from support.host_node import host_node
from support.sampling.counting import passes
from support.sampling.short_runs import CFG, STEPS, close, same, sample

# cfg 1


def test_auto_at_cfg_1_is_simple_guidance_in_one_pass(family, bare, embeds):
    auto = small_models.applied(bare, embeds, guidance="auto", image_scale=0.5)
    weight, guidance, _ = resolve(ApplySettings(), embeds.adapter, embeds.instruction)
    assert guidance == "three-way"
    simple = small_models.applied(bare, embeds, guidance="simple", weight=weight)
    same(sample(auto, cfg=1.0), sample(simple, cfg=1.0))
    assert passes(auto, cfg=1.0) == [1] * STEPS


def test_auto_at_other_scales_is_three_way_guidance(bare, embeds):
    auto = small_models.applied(bare, embeds, guidance="auto")
    weight, _, _ = resolve(ApplySettings(), embeds.adapter, embeds.instruction)
    same(sample(auto), sample(small_models.applied(bare, embeds, guidance="three-way", weight=weight)))
    assert passes(auto) == [3] * STEPS


@pytest.mark.parametrize("image_scale, expected", [(1.0, 2), (0.5, 4)])
def test_three_way_that_a_user_asks_for_stays_so_at_cfg_1(bare, embeds, image_scale, expected):
    asked = small_models.applied(bare, embeds, guidance="three-way", image_scale=image_scale)
    assert passes(asked, cfg=1.0) == [expected] * STEPS
    close(sample(asked, cfg=1.0), sample(asked, cfg=1.0001), tolerance=2e-3)


def test_auto_beside_three_way_that_a_user_asks_for_stays_three_way_at_cfg_1(bare, embeds):
    first = small_models.applied(bare, embeds, guidance="three-way", weight=0.4, image_scale=0.5)
    auto = small_models.applied(first, embeds, guidance="auto", image_scale=0.5)
    weight, _, _ = resolve(ApplySettings(), embeds.adapter, embeds.instruction)
    asked = small_models.applied(first, embeds, guidance="three-way", weight=weight, image_scale=0.5)
    same(sample(auto, cfg=1.0), sample(asked, cfg=1.0))
    assert passes(auto, cfg=1.0) == [4] * STEPS


def test_auto_at_cfg_1_is_simple_for_a_node_that_asks_for_a_pass_again(bare, embeds):
    weight, _, _ = resolve(ApplySettings(), embeds.adapter, embeds.instruction)

    def with_pag(guidance, weight):
        model = small_models.applied(bare, embeds, guidance=guidance, weight=weight)
        return host_node(nodes_pag.PerturbedAttentionGuidance, model, 2.0)[0]

    close(sample(with_pag("auto", 0.8), cfg=1.0), sample(with_pag("simple", weight), cfg=1.0))


def test_auto_with_a_guider_that_asks_for_the_negative_is_three_way_at_cfg_1(bare, embeds):
    def unchanged(args):
        return args["denoised"]

    auto = small_models.applied(bare, embeds, guidance="auto", image_scale=0.5)
    auto.set_model_sampler_post_cfg_function(unchanged, disable_cfg1_optimization=True)
    assert passes(auto, cfg=1.0) == [4] * STEPS


# Three-way guidance for a part of the steps


def test_three_way_until_the_beginning_is_simple_guidance(bare, embeds):
    found = small_models.applied(bare, embeds, guidance="three-way", three_way_until=0.0)
    same(sample(found, start_step=1), sample(small_models.applied(bare, embeds, guidance="simple"), start_step=1))
    assert passes(found, start_step=1) == [2] * (STEPS - 1)


def test_three_way_until_the_end_is_three_way_guidance(bare, embeds):
    found = small_models.applied(bare, embeds, guidance="three-way", three_way_until=1.0)
    same(sample(found), sample(small_models.applied(bare, embeds, guidance="three-way")))


@pytest.mark.parametrize("image_scale, count", [(1.0, 3), (0.5, 4)])
def test_three_way_until_the_middle_has_the_passes_of_both(bare, embeds, image_scale, count):
    three_way = {"guidance": "three-way", "image_scale": image_scale}
    found = small_models.applied(bare, embeds, three_way_until=0.6, **three_way)
    assert passes(found) == [count, count, 2]  # three steps, which begin at 0, the middle and the end
    close(
        sample(found),
        continued(
            small_models.applied(bare, embeds, **three_way), small_models.applied(bare, embeds, guidance="simple")
        ),
    )


def continued(first, second) -> torch.Tensor:
    """Two steps with one model, and the last with another."""
    positive, negative = (
        small_models.golden_conditioning(first.model.family, name) for name in ("positive", "negative")
    )
    latent = sample(first, last_step=2)
    none = torch.zeros_like(latent)
    steps = {"start_step": 2, "disable_noise": True, "seed": 1}
    return comfy.sample.sample(second, none, STEPS, CFG, "euler", "normal", positive, negative, latent, **steps)


def test_each_adapter_of_a_chain_keeps_three_way_guidance_until_its_own_moment(bare, embeds):
    early = {"guidance": "three-way", "weight": 0.3, "three_way_until": 0.2}
    late = {"guidance": "three-way", "weight": 0.5, "three_way_until": 0.6}
    both = small_models.applied(small_models.applied(bare, embeds, **early), embeds, **late)
    assert passes(both) == [3, 3, 2]
    whole = small_models.applied(small_models.applied(bare, embeds, guidance="simple", weight=0.3), embeds, **late)
    assert not torch.allclose(sample(both), sample(whole), atol=1e-3)
    close(sample(both, start_step=1), sample(whole, start_step=1))


def test_the_last_three_way_adapter_of_a_chain_sets_the_scales(bare, embeds):
    def chain(first, last):
        settings = ({"guidance": "three-way", "weight": 0.5, "instruct_scale": scale} for scale in (first, last))
        return sample(
            small_models.applied(small_models.applied(bare, embeds, **next(settings)), embeds, **next(settings))
        )

    expected = chain(2.0, 2.0)
    same(chain(9.0, 2.0), expected)
    assert not torch.allclose(chain(2.0, 9.0), expected, atol=1e-3)


# What is said is what happens


@pytest.mark.parametrize(
    "settings, cfgs",
    [
        ({"guidance": "simple"}, {"2": CFG, "1 at cfg 1": 1.0}),
        ({"guidance": "three-way"}, {"3": CFG, "2 at cfg 2": 2.0, "2 at cfg 1": 1.0}),
        ({"guidance": "three-way", "instruct_scale": 1.0}, {"3": CFG, "1 at cfg 1": 1.0}),
        (
            {"guidance": "three-way", "instruct_scale": 3.0, "image_scale": 0.5},
            {"4": CFG, "3 at cfg 3": 3.0, "4 at cfg 1": 1.0},
        ),
        ({"guidance": "auto"}, {"3": CFG, "2 at cfg 2": 2.0, "1 at cfg 1": 1.0}),
    ],
)
def test_the_passes_that_apply_shows_are_those_that_run(bare, embeds, settings, cfgs):
    model, lines = apply_instruct(bare, embeds, ApplySettings(**settings))
    assert f"passes a step: {', '.join(cfgs)}" in lines
    for words, cfg in cfgs.items():
        assert passes(model, cfg) == [int(words[0])] * STEPS


def test_apply_shows_from_when_on_guidance_is_simple(bare, embeds):
    settings = ApplySettings(guidance="three-way", schedule=Schedule(three_way_until=0.6))
    model, lines = apply_instruct(bare, embeds, settings)
    assert "passes a step: 3, 2 at cfg 2, 2 at cfg 1, 2 from 0.6 on" in lines
    assert passes(model) == [3, 3, 2]
