"""Branch and guided predictions against the authors' code, through ComfyUI's own guider and UNet.

float32; absolute tolerance 2e-5 for a branch, 5e-5 for a guided prediction (the scales multiply the error).
"""

import pytest
import torch
from support import small_models
from support.golden_cases import golden_case
from support.sampling import short_runs

BRANCH_TOLERANCE, GUIDED_TOLERANCE = 2e-5, 5e-5
FAMILIES = ["sd15", "sdxl", "sd3"]


def noise_prediction(model, case, cfg: float) -> torch.Tensor:
    """The noise that one step of a guider with this cfg predicts at the golden latent and timestep."""
    values, levels = case.values, model.get_model_object("model_sampling")
    sigma, x = short_runs.noise_level_and_input(levels, values["timestep"].float(), values["latent"])
    conds = tuple(small_models.golden_conditioning(case.family, name) for name in ("positive", "negative"))
    return short_runs.noise_prediction(model, conds, cfg, x, sigma)


def applied(case, **settings):
    settings = {"weight": case.config["scale"], "guidance": "three-way", **settings}
    return small_models.applied(
        small_models.small_model(case.family), small_models.golden_embeds(case.family), **settings
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bare_model_gives_the_reference_prediction(family):
    case = golden_case(family)
    found = noise_prediction(small_models.small_model(family), case, cfg=1.0)
    torch.testing.assert_close(found, case.values["eps_without_adapter.positive"], rtol=0, atol=BRANCH_TOLERANCE)


# With instruct and image scales 0 and 1 the host's cond is `everything`, its uncond `image_only`.
BRANCHES = {
    "full": {"cfg": 1.0, "guidance": "simple"},
    "uncond": {"cfg": 0.0, "guidance": "simple"},
    "everything": {"cfg": 1.0, "instruct_scale": 0.0, "image_scale": 1.0},
    "image_only": {"cfg": 0.0, "instruct_scale": 0.0, "image_scale": 1.0},
}


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_branch_gives_the_reference_prediction(family, branch):
    case = golden_case(family)
    settings = dict(BRANCHES[branch])
    found = noise_prediction(applied(case, **{k: v for k, v in settings.items() if k != "cfg"}), case, settings["cfg"])
    torch.testing.assert_close(found, case.values[f"eps.{branch}"], rtol=0, atol=BRANCH_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_three_way_guidance_gives_the_reference_prediction(family):
    case = golden_case(family)
    scales = case.config["guidance"]
    model = applied(case, instruct_scale=scales["instruct"], image_scale=scales["image"])
    found = noise_prediction(model, case, cfg=scales["text"])
    torch.testing.assert_close(found, case.values["eps.guided_three_way"], rtol=0, atol=GUIDED_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_simple_guidance_gives_the_reference_prediction(family):
    case = golden_case(family)
    found = noise_prediction(applied(case, guidance="simple"), case, cfg=case.config["guidance"]["text"])
    torch.testing.assert_close(found, case.values["eps.guided_simple"], rtol=0, atol=GUIDED_TOLERANCE)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_middle_layer_takes_part(family):
    case = golden_case(family)
    last = max(int(name.split(".")[1]) for name in case.adapter_weights if name.startswith("ip_adapter."))
    adapter = small_models.small_adapter(
        family, lambda name, w: w * 0 if name == f"ip_adapter.{last}.to_v_ip.weight" else w
    )
    embeds = small_models.InstructEmbeds(adapter, "use everything", small_models.golden_tokens(case, adapter))
    model = small_models.applied(
        small_models.small_model(family), embeds, weight=case.config["scale"], guidance="simple"
    )

    found = noise_prediction(model, case, cfg=1.0)

    assert not torch.allclose(found, case.values["eps.full"], rtol=0, atol=100 * BRANCH_TOLERANCE)
