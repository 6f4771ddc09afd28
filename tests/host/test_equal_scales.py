"""Three-way guidance with instruct_guidance at the sampler's cfg, where a pass cancels out, and where it must run.

Expected are the oracle's pictures (support/sampling/oracle_model.py), which leaves out no pass, or laws.
"""

import comfy.samplers
import pytest
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_custom_sampler as custom
from comfy_extras import nodes_model_advanced, nodes_perpneg
from support import small_models
from support.host_node import host_node
from support.sampling.counting import passes, rows
from support.sampling.host_samplers import check, custom_advanced, ksampler, pair
from support.sampling.scenes import Link, PackForm, Scene, text
from support.sampling.short_runs import CFG, STEPS, close, same, sample


@pytest.mark.parametrize("image_scale, expected", [(1.0, 2), (0.75, 3)])
def test_an_instruct_scale_of_cfg_needs_no_pass_of_everything(family, image_scale, expected):
    scene = Scene(family, (Link(instruct_scale=CFG, image_scale=image_scale),))
    check(ksampler, scene, cfg=CFG)
    form = PackForm(scene)
    assert set(rows(form.model, lambda: ksampler(form))) == {expected}


def test_the_picture_without_everything_is_the_limit_of_those_with_it(bare, embeds):
    at, beside = (
        small_models.applied(bare, embeds, guidance="three-way", instruct_scale=scale, image_scale=0.75)
        for scale in (CFG, CFG + 1e-4)
    )
    assert (passes(at), passes(beside)) == ([3] * STEPS, [4] * STEPS)
    close(sample(at), sample(beside), tolerance=1e-3)


def test_scales_of_1_at_cfg_1_are_the_full_branch_in_one_pass(bare, embeds):
    three_way = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=1.0, image_scale=1.0)
    same(sample(three_way, cfg=1.0), sample(small_models.applied(bare, embeds, guidance="simple"), cfg=1.0))
    assert passes(three_way, cfg=1.0) == [1] * STEPS


def rescaled(model):
    return nodes_model_advanced.RescaleCFG().patch(model, 0.7)[0]


def with_function(name: str):
    """A node that looks at the predictions: it makes more of the negative than the sampler's formula does."""
    functions = {
        "sampler_cfg_function": lambda args: args["cond"] * args["cond_scale"] - args["uncond"],
        "sampler_post_cfg_function": lambda args: args["denoised"] + 0.1 * args["uncond_denoised"],
        "sampler_pre_cfg_function": lambda args: [args["conds_out"][0], 1.1 * args["conds_out"][1]],
    }

    def patch(model):
        model = model.clone()
        getattr(model, f"set_model_{name}")(functions[name])
        return model

    return patch


def with_wrapper(wrapper):
    def patch(model):
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "other", wrapper)
        return model

    return patch


def another_scale(executor, *args, **kwargs):
    """A node that changes the guider's scale for the step, and puts it back, as ComfyUI's own CFG override does."""
    guider = executor.class_obj
    before, guider.cfg = guider.cfg, guider.cfg + 1
    try:
        return executor(*args, **kwargs)
    finally:
        guider.cfg = before


def another_formula(executor, x, timestep, model_options, seed=None):
    """A node that asks for the two predictions itself, and combines them by a scale of its own."""
    guider = executor.class_obj
    conds = [guider.conds["positive"], guider.conds["negative"]]
    cond, uncond = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, timestep, model_options)
    return uncond + 2 * (cond - uncond)


LOOKERS = {
    "RescaleCFG": rescaled,
    "a CFG function": with_function("sampler_cfg_function"),
    "a post-CFG function": with_function("sampler_post_cfg_function"),
    "a pre-CFG function": with_function("sampler_pre_cfg_function"),
    "a wrapper that changes the scale": with_wrapper(another_scale),
    "a wrapper that has its own formula": with_wrapper(another_formula),
}


def agrees_in_four_passes(scene: Scene, run) -> None:
    check(run, scene)
    form = PackForm(scene)
    assert set(rows(form.model, lambda: run(form))) == {4}


@pytest.fixture
def equal(family) -> Scene:
    return Scene(family, (Link(instruct_scale=CFG),))


@pytest.mark.spread("family", "looker")
@pytest.mark.parametrize("looker", LOOKERS)
def test_no_pass_is_left_out_where_something_looks_at_the_predictions(equal, looker):
    agrees_in_four_passes(equal, lambda form: ksampler(form, LOOKERS[looker](form.model)))


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp"])
def test_no_pass_is_left_out_by_a_sampler_that_looks_at_the_negative(equal, sampler):
    agrees_in_four_passes(equal, lambda form: ksampler(form, sampler=sampler))


# The scales: this guider's unused cfg, and its first one. With pooled texts, each positive has passes of its own.
@pytest.mark.parametrize("scale, alone, pooled", [(1.0, 5, 6), (CFG, 5, 7)])
def test_no_pass_is_left_out_by_a_guider_of_two_scales(family, scale, alone, pooled):
    def run(form):
        positive, negative = pair(form)
        middle = form.conditions("positive", text("middle", family))
        guider = host_node(custom.DualCFGGuider, form.model, positive, middle, negative, CFG, 2.0, "regular")
        return custom_advanced(form, guider)

    scene = Scene(family, (Link(instruct_scale=scale),))
    check(run, scene)
    form = PackForm(scene)
    assert set(rows(form.model, lambda: run(form))) == {alone if family == "sd15" else pooled}


def test_no_pass_is_left_out_by_a_guider_with_a_formula_of_its_own(equal):
    def run(form):
        empty = form.conditions("further negative", text("empty", equal.family))
        return custom_advanced(form, host_node(nodes_perpneg.PerpNegGuider, form.model, *pair(form), empty, CFG, 0.7))

    check(run, equal)
