"""The guider with three scales, beside ComfyUI's CFGGuider on a model whose Apply has them. Bit for bit."""

import comfy.samplers
import pytest
import torch
from comfy_extras import nodes_custom_sampler as custom
from ipadapter_instruct.models.patching.chain import CHAIN
from ipadapter_instruct.nodes.control.guider import IPAdapterInstructGuider
from support import small_models
from support.host_node import host_node
from support.pack_nodes import run_node
from support.sampling.counted_passes import passes, rows
from support.sampling.short_runs import CFG, close, same, sample

STEPS = 2


@pytest.fixture(scope="module", params=small_models.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def embeds(family):
    return small_models.golden_embeds(family)


@pytest.fixture(scope="module")
def bare(family):
    return small_models.small_model(family)


def conds(model) -> tuple[list, list]:
    return tuple(small_models.golden_conditioning(model.model.family, name) for name in ("positive", "negative"))


def run(model, guider) -> torch.Tensor:
    channels = model.model.latent_format.latent_channels
    sigmas = host_node(custom.BasicScheduler, model, "normal", STEPS, 1.0)[0]
    sampler, noise = host_node(custom.KSamplerSelect, "euler")[0], host_node(custom.RandomNoise, 1)[0]
    latent = {"samples": torch.zeros(1, channels, 16, 24)}
    return host_node(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent)[0]["samples"]


def host_guided(model, cfg: float = CFG) -> torch.Tensor:
    return run(model, host_node(custom.CFGGuider, model, *conds(model), cfg)[0])


def node(model, text: float = CFG, instruct: float = 2.0, image: float = 1.0):
    scales = {"text_guidance": text, "instruct_guidance": instruct, "image_guidance": image}
    positive, negative = conds(model)
    return run_node(IPAdapterInstructGuider, model=model, positive=positive, negative=negative, **scales)


def guided(model, text: float = CFG, instruct: float = 2.0, image: float = 1.0) -> torch.Tensor:
    return run(model, node(model, text, instruct, image).args[0])


@pytest.mark.parametrize("text, instruct, image", [(CFG, 3.0, 0.5), (CFG, CFG, 1.0), (1.0, 2.0, 1.0)])
def test_it_is_a_cfg_guider_of_applys_scales(bare, embeds, text, instruct, image):
    model = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=instruct, image_scale=image)
    same(guided(model, text, instruct, image), host_guided(model, text))


def test_its_scales_take_the_place_of_applys_and_leave_the_model_alone(bare, embeds):
    model = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=9.0, image_scale=0.1)
    chain, before = model.model_options["transformer_options"][CHAIN], host_guided(model)
    expected = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=3.0, image_scale=0.5)
    same(guided(model, CFG, 3.0, 0.5), host_guided(expected))
    assert model.model_options["transformer_options"][CHAIN] is chain
    same(host_guided(model), before)


@pytest.mark.parametrize("instruction", ["use the composition", "use the style"])
def test_auto_becomes_three_way_and_keeps_its_weight(family, bare, instruction):
    own = small_models.golden_embeds(family, instruction)
    changed = family == "sd15" and instruction == "use the composition"  # the authors' -0.2
    expected = small_models.applied(bare, own, guidance="three-way", weight=0.6 if changed else 0.8)
    model = small_models.applied(bare, own, guidance="auto")
    same(guided(model), host_guided(expected))
    same(guided(model, 1.0), host_guided(expected, 1.0))


def test_an_apply_that_asks_for_simple_guidance_keeps_it(bare, embeds):
    def chain(last: str):
        first = small_models.applied(bare, embeds, guidance="simple", weight=0.5)
        return small_models.applied(first, embeds, guidance=last, weight=0.3, instruct_scale=3.0)

    same(guided(chain("three-way"), CFG, 3.0), host_guided(chain("three-way")))
    both = small_models.applied(chain("three-way"), embeds, guidance="simple", weight=0.1)
    same(guided(both, CFG, 3.0), host_guided(both))


def test_equal_scales_are_classifier_free_guidance(bare, embeds):
    simple = small_models.applied(bare, embeds, guidance="simple")
    close(guided(small_models.applied(bare, embeds, guidance="three-way"), CFG, CFG, CFG), host_guided(simple))


def test_what_is_applied_afterwards_has_scales_of_its_own(bare, embeds):
    """The guider's chain is its own clone's: the model can be applied to and sampled further."""
    model = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=3.0)
    node(model, CFG, 9.0)
    assert passes(model) == [3] * 3
    same(sample(model), sample(small_models.applied(bare, embeds, guidance="three-way", instruct_scale=3.0)))


@pytest.mark.parametrize(
    "text, instruct, image, expected",
    [
        (5.0, 2.0, 1.0, 3),
        (5.0, 2.0, 0.5, 4),
        (5.0, 5.0, 1.0, 2),
        (5.0, 5.0, 0.5, 3),
        (1.0, 2.0, 1.0, 2),
        (1.0, 2.0, 0.5, 4),
        (1.0, 1.0, 1.0, 1),
        (5.0, 1.0, 1.0, 3),
        (5.0, 0.0, 1.0, 2),
        (5.0, 2.0, 0.0, 4),
        (0.0, 0.0, 0.0, 3),
    ],
)
def test_the_passes_it_shows_are_those_that_run(bare, embeds, text, instruct, image, expected):
    output = node(small_models.applied(bare, embeds), text, instruct, image)
    assert f"passes a step: {expected}" in output.ui["text"]
    assert rows(bare, lambda: run(bare, output.args[0])) == [expected] * STEPS


def test_it_is_a_guider_of_comfyui(bare, embeds):
    assert isinstance(node(small_models.applied(bare, embeds)).args[0], comfy.samplers.CFGGuider)


def test_a_model_without_an_adapter_is_refused(bare):
    message = "A model from Apply .* was expected, with guidance auto or three-way; this one has no adapter. Connect"
    with pytest.raises(ValueError, match=message):
        node(bare)


def test_a_model_that_asks_for_simple_guidance_alone_is_refused(bare, embeds):
    with pytest.raises(ValueError, match="this one asks for simple guidance. Connect or change it, or use CFGGuider"):
        node(small_models.applied(bare, embeds, guidance="simple"))
