"""The right tokens in the right rows, under every sampler and guider of the host: each case runs on the pack's
model and on the oracle (support/sampling/oracle_model.py), and the latents must agree. float32, tolerance 1e-4 of the
largest value. The host's ordinary sampler meets every chain in every family; each other one meets every chain once and
every family twice."""

import comfy.model_management
import pytest
from comfy_extras import nodes_custom_sampler as custom
from comfy_extras import nodes_model_advanced, nodes_pag, nodes_perpneg, nodes_sag, nodes_sd3, nodes_slg
from support.host_node import host_node
from support.sampling.host_samplers import (
    CFG,
    SEED,
    STEPS,
    check,
    custom_advanced,
    ksampler,
    latent,
    pair,
    pair_with_area,
    sampled,
)
from support.sampling.scenes import Link, Scene, text

import nodes as host_nodes

CHAINS = {
    "simple": (Link(guidance="simple"),),
    "three-way": (Link(),),
    "three-way without uncond": (Link(image_scale=1.0),),
    "simple then three-way": (Link(guidance="simple", weight=0.5), Link(picture=1)),
    "three-way then simple": (Link(), Link(guidance="simple", weight=0.5, picture=1)),
    "two three-way": (Link(instruct_scale=3.0), Link(image_scale=0.5, weight=-0.4, picture=1)),
}


each_chain_once = pytest.mark.spread("family", "scene")


@pytest.fixture(params=CHAINS, ids=lambda name: name.replace(" ", "_"))
def scene(request, family) -> Scene:
    return Scene(family, CHAINS[request.param])


def test_ksampler(scene):
    check(ksampler, scene)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_cfg_pp", "uni_pc"])
def test_other_samplers(family, sampler):
    check(ksampler, Scene(family), sampler=sampler)


@each_chain_once
def test_cfg_1_runs_the_whole_conditional_prediction(scene):
    check(ksampler, scene, cfg=1.0)


@each_chain_once
def test_a_batch_of_three_latents(scene):
    check(ksampler, scene, batch=3)


@each_chain_once
def test_ksampler_advanced_with_leftover_noise(scene):
    def run(form):
        positive, negative = pair(form)
        sampler = host_nodes.KSamplerAdvanced()
        first = sampler.sample(
            form.model, "enable", SEED, 4, CFG, "euler", "normal", positive, negative, latent(form), 0, 2, "enable"
        )[0]
        return sampled(
            sampler.sample(
                form.model, "disable", SEED, 4, CFG, "euler", "normal", positive, negative, first, 2, 10000, "disable"
            )
        )

    check(run, scene)


@each_chain_once
def test_sampler_custom(scene):
    def run(form):
        positive, negative = pair(form)
        sigmas = host_node(custom.BasicScheduler, form.model, "normal", STEPS, 1.0)[0]
        sampler = host_node(custom.KSamplerSelect, "euler")[0]
        return sampled(
            host_node(
                custom.SamplerCustom, form.model, True, SEED, CFG, positive, negative, sampler, sigmas, latent(form)
            )
        )

    check(run, scene)


@each_chain_once
def test_cfg_guider(scene):
    check(lambda form: custom_advanced(form, host_node(custom.CFGGuider, form.model, *pair(form), CFG)), scene)


@each_chain_once
def test_basic_guider_gets_the_full_branch_alone(scene):
    check(lambda form: custom_advanced(form, host_node(custom.BasicGuider, form.model, form.conditions("full"))), scene)


@each_chain_once
@pytest.mark.parametrize("style", ["regular", "nested"])
def test_dual_cfg_guider(scene, style):
    def run(form):
        positive, negative = pair(form)
        middle = form.conditions("positive", text("middle", scene.family))
        guider = host_node(custom.DualCFGGuider, form.model, positive, middle, negative, 3.0, 2.0, style)
        return custom_advanced(form, guider)

    check(run, scene)


@each_chain_once
def test_perp_neg_guider(scene):
    def run(form):
        empty = form.conditions("further negative", text("empty", scene.family))
        guider = host_node(nodes_perpneg.PerpNegGuider, form.model, *pair(form), empty, CFG, 0.7)
        return custom_advanced(form, guider)

    check(run, scene)


@each_chain_once
def test_perp_neg_patch(scene):
    def run(form):
        empty = form.conditions("further negative", text("empty", scene.family))
        return ksampler(form, host_node(nodes_perpneg.PerpNeg, form.model, empty, 0.7)[0])

    check(run, scene)


@each_chain_once
def test_perturbed_attention_guidance(scene):
    check(lambda form: ksampler(form, host_node(nodes_pag.PerturbedAttentionGuidance, form.model, 2.0)[0]), scene)


@each_chain_once
def test_self_attention_guidance(scene):
    if scene.family == "sd3":
        pytest.skip("the host's node looks at a UNet's middle block")

    def run(form):  # the node blurs what its attention has at least so many places for
        return ksampler(form, host_node(nodes_sag.SelfAttentionGuidance, form.model, 0.5, 2.0)[0], size=(16, 24))

    check(run, scene)


@each_chain_once
def test_rescale_cfg(scene):
    rescale = nodes_model_advanced.RescaleCFG()
    check(lambda form: ksampler(form, rescale.patch(form.model, 0.7)[0]), scene)


SPAN = {"start_percent": 0.0, "end_percent": 1.0}
SKIPS = {
    "SD3's node": (nodes_sd3.SkipLayerGuidanceSD3, {"layers": "2", "scale": 2.0, **SPAN}),
    "for any DiT": (
        nodes_slg.SkipLayerGuidanceDiT,
        {"double_layers": "2", "single_layers": "", "scale": 2.0, "rescaling_scale": 0.5, **SPAN},
    ),
    "simple": (nodes_slg.SkipLayerGuidanceDiTSimple, {"double_layers": "2", "single_layers": "", **SPAN}),
}


@pytest.mark.parametrize("links", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("node", SKIPS)
def test_skip_layer_guidance(links, node):
    skip, values = SKIPS[node]
    check(lambda form: ksampler(form, host_node(skip, form.model, **values)[0]), Scene("sd3", links))


@each_chain_once
def test_area_conditioning(scene):
    check(lambda form: ksampler(form, conds=pair_with_area(form)), scene)


@each_chain_once
def test_two_positives(scene):
    second = text("second", scene.family)

    def run(form):
        positives = [scene.positive, second]
        positive = form.conditions("positive") + form.conditions("positive", second, positives)
        return ksampler(form, conds=(positive, form.conditions("negative", positives=positives)))

    check(run, scene)


@each_chain_once
def test_conditions_split_for_want_of_memory(scene, monkeypatch):
    def none_free(device=None, torch_free_too=False):
        return (0, 0) if torch_free_too else 0

    monkeypatch.setattr(comfy.model_management, "get_free_memory", none_free)
    check(ksampler, scene, batch=2)


def test_prompts_of_unequal_length(family):
    check(ksampler, Scene(family, positive=text("long", family, length=154)))
