"""At which steps adapters act, and with what factor, for every way in which ComfyUI measures and orders noise levels.

Expected are the steps of ComfyUI's ConditioningSetTimestepRange with the same fractions.
"""

import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from comfy_extras import nodes_model_advanced as advanced
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.encoding.embeds import switch_embeds
from ipadapter_instruct.models.guidance.weight_schedule import LINEAR, NOISE, parse_schedule
from ipadapter_instruct.models.patching.batch_index import WholeLatent
from ipadapter_instruct.models.patching.chain import CHAIN
from ipadapter_instruct.models.patching.run import _step_factor, prepare_run, sigma_window
from support import small_models
from support.host_node import host_node
from support.sampling.short_runs import noise, same


def as_it_is(model):
    return model


def patched_by(node, *values):
    return lambda model: node().patch(model, *values)[0]


SAMPLINGS = {
    "eps": ("sd15", as_it_is),
    "v-prediction": ("sd15", patched_by(advanced.ModelSamplingDiscrete, "v_prediction", True)),
    "lcm": ("sd15", patched_by(advanced.ModelSamplingDiscrete, "lcm", False)),
    "EDM": ("sdxl", patched_by(advanced.ModelSamplingContinuousEDM, "edm", 120.0, 0.002)),
    "EDM v-prediction": ("sdxl", patched_by(advanced.ModelSamplingContinuousEDM, "v_prediction", 500.0, 0.03)),
    "CosXL": ("sdxl", patched_by(advanced.ModelSamplingContinuousEDM, "cosmos_rflow", 80.0, 0.002)),
    "continuous v": ("sd15", patched_by(advanced.ModelSamplingContinuousV, "v_prediction", 500.0, 0.03)),
    "flow": ("sd3", as_it_is),
    "flow, shift 1": ("sd3", patched_by(advanced.ModelSamplingSD3, 1.0)),
    "flow, shift 6.3": ("sd3", patched_by(advanced.ModelSamplingSD3, 6.3)),
    "Flux's flow": ("sd3", patched_by(advanced.ModelSamplingFlux, 1.15, 0.5, 1024, 1024)),
    "Stable Cascade's": ("sd15", patched_by(advanced.ModelSamplingStableCascade, 2.0)),
}
STEPS = (5, 10, 20)
WHOLE = WholeLatent(1, (8, 12))


@pytest.fixture(scope="module", params=SAMPLINGS)
def model(request):
    family, change = SAMPLINGS[request.param]
    return change(small_models.small_model(family))


@pytest.fixture(scope="module")
def embeds(model):
    return small_models.golden_embeds(model.model.family)


def host_acts(sampling, level: torch.Tensor, start: float, end: float) -> bool:
    """Whether a condition in this range of the schedule acts at a noise level."""
    cond = {name: sampling.percent_to_sigma(at) for name, at in (("timestep_start", start), ("timestep_end", end))}
    x = torch.zeros(1, 4, 8, 8)
    found = comfy.samplers.get_area_and_mult({**cond, "model_conds": {}, "uuid": None}, x, level[None])
    return found is not None


def all_of_one_fraction(model, embeds, at: float):
    """A window on either side of a fraction, a keyframe on either side, a schedule and three-way guidance up to it."""
    before, after = 0.1, 0.2
    model = small_models.applied(model, embeds, weight=before, guidance="simple", end_percent=at)
    model = small_models.applied(model, embeds, weight=after, guidance="simple", start_percent=at)
    timed = switch_embeds(embeds, embeds, at)
    model = small_models.applied(model, timed, weight=0.3, guidance="simple")
    schedule = parse_schedule(f"0: 2, {at}: 3", "hold", NOISE)
    model = small_models.applied(model, embeds, weight=0.4, guidance="simple", schedule=schedule)
    return small_models.applied(model, embeds, weight=0.5, guidance="three-way", three_way_until=at)


def what_acts(run, level: torch.Tensor) -> dict:
    acting = run.active(level[None])
    by_weight = {weight: [a for a in acting if a.applied.weight == weight] for weight in (0.1, 0.2, 0.3, 0.4, 0.5)}
    ((first,), (scheduled,), (guided,)) = (by_weight[weight] for weight in (0.3, 0.4, 0.5))
    return {
        "window until": bool(by_weight[0.1]),
        "window from": bool(by_weight[0.2]),
        "second keyframe": first.applied.start_percent > 0,
        "second factor": scheduled.factor == 3,
        "simple": not guided.is_three_way,
    }


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_windows_and_schedules_agree_with_the_hosts_ranges_at_every_step(model, scheduler):
    sampling = model.get_model_object("model_sampling")
    for steps in STEPS:
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
        for number in range(1, steps):
            at = number / steps
            until, first, since = (
                sigma_window(*ends, sampling, end_is_exclusive)
                for ends, end_is_exclusive in (((0.0, at), False), ((0.0, at), True), ((at, 1.0), False))
            )
            factor = _step_factor(parse_schedule(f"0: 2, {at}: 3", "hold", NOISE), sampling, None)
            for level in sigmas[:-1]:
                has_begun = host_acts(sampling, level, at, 1.0)
                assert until(float(level)) == host_acts(sampling, level, 0.0, at), (steps, at, float(level))
                assert since(float(level)) == has_begun, (steps, at, float(level))
                assert first(float(level)) != has_begun, (steps, at, float(level))
                assert factor(float(level)) == (3 if has_begun else 2), (steps, at, float(level))


def test_windows_turns_schedules_and_three_way_guidance_agree_in_one_run(model, embeds):
    sampling, steps = model.get_model_object("model_sampling"), 10
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
    for at in (0.1, 0.4, 0.9):
        applied = all_of_one_fraction(model, embeds, at)
        chain, guider = applied.model_options["transformer_options"][CHAIN], comfy.samplers.CFGGuider(applied)
        run = prepare_run(chain, guider, sigmas, WHOLE)
        for level in sigmas[:-1]:
            has_begun = host_acts(sampling, level, at, 1.0)
            assert what_acts(run, level) == {
                "window until": host_acts(sampling, level, 0.0, at),
                "window from": has_begun,
                "second keyframe": has_begun,
                "second factor": has_begun,
                "simple": has_begun,
            }, (at, float(level))


# Levels that rise, or fall and rise


FAMILIES = ["sd15", "sd3"]
FACTORS = (1.0, 0.2, 0.6, 0.0)


def factors():
    return parse_schedule(", ".join(map(str, FACTORS)), "hold", "steps")


def levels(model, way: str) -> torch.Tensor:
    falling = host_node(custom.BasicScheduler, model, "normal", len(FACTORS), 1.0)[0]
    if way == "rising":
        return host_node(custom.FlipSigmas, falling)[0]
    return torch.cat([falling[1:4], falling[1:3].flip(0)])


def visited(model, sigmas: torch.Tensor) -> list[torch.Tensor]:
    """The predictions of a run's steps, each of the same latent."""
    family = model.model.family
    guider, x, found = comfy.samplers.CFGGuider(model), noise(model, height=8, width=12), []
    guider.set_conds(*(small_models.golden_conditioning(family, name) for name in ("positive", "negative")))
    guider.set_cfg(3.0)

    def visit(denoiser, start, levels, extra_args, callback, disable):
        found.extend(denoiser(x, level[None], **extra_args) for level in levels[:-1])
        return start

    guider.sample(torch.zeros_like(x), torch.zeros_like(x), comfy.samplers.KSAMPLER(visit), sigmas)
    return found


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("way", ["rising", "falling, then rising"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_has_its_factor_whichever_way_the_levels_go(family, way, guidance):
    bare, embeds = small_models.small_model(family), small_models.golden_embeds(family)
    sigmas = levels(bare, way)
    found = visited(small_models.applied(bare, embeds, guidance=guidance, schedule=factors()), sigmas)
    for number, factor in enumerate(FACTORS):
        constant = small_models.applied(bare, embeds, guidance=guidance, weight=0.8 * factor)
        same(found[number], visited(constant, sigmas)[number])


def test_heat_maps_of_rising_levels_stand_in_the_order_of_the_steps():
    bare, embeds = small_models.small_model("sd15"), small_models.golden_embeds("sd15")
    model, watch = watched(small_models.applied(bare, embeds))
    visited(model, levels(bare, "rising"))
    assert [position for position, _ in watch.over_steps(4)] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("way", ["rising", "falling, then rising"])
def test_a_straight_schedule_meets_its_points_at_the_steps(way):
    bare, embeds = small_models.small_model("sd15"), small_models.golden_embeds("sd15")
    applied = small_models.applied(bare, embeds, schedule=parse_schedule("0: 1, 1: 2", LINEAR, "steps"))
    sigmas = levels(bare, way)
    chain, guider = applied.model_options["transformer_options"][CHAIN], comfy.samplers.CFGGuider(applied)
    run = prepare_run(chain, guider, sigmas, WHOLE)
    found = [run.active(level[None])[0].factor for level in sigmas[:-1]]
    assert found == pytest.approx([1, 1.25, 1.5, 1.75])
