"""Laws that hold for every adapter, on real samplers. Bit for bit unless a tolerance is given."""

import copy

import comfy.model_management
import pytest
import torch
from ipadapter_instruct.models.patching.chain import CHAIN
from ipadapter_instruct.models.patching.run import RUN
from support import small_models
from support.sampling.short_runs import CFG, close, noise, same, sample

MODES = ["simple", "three-way"]


@pytest.mark.parametrize("guidance", MODES)
def test_weight_0_is_the_bare_model(bare, embeds, guidance):
    same(sample(small_models.applied(bare, embeds, weight=0.0, guidance=guidance)), sample(bare))


def test_weight_0_is_the_bare_model_whatever_auto_makes_of_the_weight(bare, embeds):
    assert "composition" in embeds.instruction
    same(sample(small_models.applied(bare, embeds, weight=0.0, guidance="auto")), sample(bare))


@pytest.mark.parametrize("guidance", MODES)
def test_an_adapter_with_weight_changes_the_picture(bare, embeds, guidance):
    assert not torch.allclose(sample(small_models.applied(bare, embeds, guidance=guidance)), sample(bare), atol=0.05)


def test_applying_leaves_the_source_model_unchanged(bare, embeds):
    before = sample(bare)
    options = copy.deepcopy(bare.model_options)
    applied = small_models.applied(bare, embeds)
    sample(applied)
    assert bare.model_options == options
    same(sample(bare), before)


def test_stacking_a_second_adapter_leaves_the_first_output_unchanged(bare, embeds):
    first = small_models.applied(bare, embeds, guidance="simple")
    before = sample(first)
    second = small_models.applied(first, embeds, guidance="three-way", weight=0.5)
    assert not torch.equal(sample(second), before)
    same(sample(first), before)


def test_clones_share_the_adapter_instead_of_copying_it(bare, embeds):
    applied = small_models.applied(bare, embeds)
    chain = applied.model_options["transformer_options"][CHAIN]
    for clone in (applied.clone(), applied.clone().clone()):
        assert clone.model_options["transformer_options"][CHAIN] is chain
    same(sample(applied.clone()), sample(applied))


def test_nothing_of_a_run_stays_behind(bare, embeds):
    applied = small_models.applied(bare, embeds)
    sample(applied)
    assert RUN not in applied.model_options["transformer_options"]


def test_two_applies_of_one_adapter_add_up(bare, embeds):
    once = small_models.applied(bare, embeds, weight=0.3, guidance="simple")
    twice = small_models.applied(once, embeds, weight=0.5, guidance="simple")
    close(sample(twice), sample(small_models.applied(bare, embeds, weight=0.8, guidance="simple")))


@pytest.mark.parametrize("guidance", MODES)
def test_the_order_of_applies_does_not_matter(bare, embeds, guidance):
    other = small_models.InstructEmbeds(embeds.adapter, "", embeds.image_tokens.map(lambda t: t.roll(5, dims=-1)))
    settings = {"guidance": guidance, "weight": 0.5}
    one = small_models.applied(small_models.applied(bare, embeds, **settings), other, **settings)
    two = small_models.applied(small_models.applied(bare, other, **settings), embeds, **settings)
    close(sample(one), sample(two))


def test_equal_scales_are_classifier_free_guidance(bare, embeds):
    three_way = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=CFG, image_scale=CFG)
    close(sample(three_way), sample(small_models.applied(bare, embeds, guidance="simple")))


def test_scales_of_1_are_the_full_branch(bare, embeds):
    three_way = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=1.0, image_scale=1.0)
    close(sample(three_way, cfg=1.0), sample(small_models.applied(bare, embeds, guidance="simple"), cfg=1.0))


def test_cfg_1_is_the_limit_of_cfg_just_above_1(bare, embeds):
    three_way = small_models.applied(bare, embeds, guidance="three-way", instruct_scale=3.0)
    close(sample(three_way, cfg=1.0), sample(three_way, cfg=1.0001), tolerance=2e-3)


@pytest.mark.parametrize("guidance", MODES)
def test_outside_the_window_the_step_is_the_bare_models(bare, embeds, guidance):
    late = small_models.applied(bare, embeds, guidance=guidance, start_percent=0.999)
    same(sample(late, last_step=2), sample(bare, last_step=2))
    early = small_models.applied(bare, embeds, guidance=guidance, end_percent=0.001)
    same(sample(early, start_step=1), sample(bare, start_step=1))


def test_inside_the_window_the_step_is_the_adapters(bare, embeds):
    whole = small_models.applied(bare, embeds, guidance="simple")
    half = small_models.applied(bare, embeds, guidance="simple", end_percent=0.5)
    same(sample(half, last_step=1), sample(whole, last_step=1))
    assert not torch.equal(sample(half), sample(whole))


@pytest.mark.parametrize("guidance", MODES)
def test_a_batch_of_two_is_two_batches_of_one(bare, embeds, guidance):
    applied = small_models.applied(bare, embeds, guidance=guidance)
    both = noise(bare, batch=2)
    apart = torch.cat([sample(applied, both[:1]), sample(applied, both[1:])])
    close(sample(applied, both), apart)


def test_a_reference_given_twice_is_the_reference_given_once(family, bare, embeds):
    if family == "sd3":
        pytest.skip("SD3's image tokens share one softmax with the image stream, so their number counts")
    twice = small_models.InstructEmbeds(embeds.adapter, "", embeds.image_tokens.map(lambda t: torch.cat([t, t], dim=1)))
    close(sample(small_models.applied(bare, twice)), sample(small_models.applied(bare, embeds, guidance="three-way")))


@pytest.mark.parametrize("height, width", [(17, 23), (15, 9)])
def test_odd_latent_sizes(bare, embeds, height, width):
    mask = torch.ones(1, 100, 70)
    applied = small_models.applied(bare, embeds, mask, guidance="three-way")
    assert sample(applied, noise(bare, 1, height, width)).isfinite().all()


@pytest.mark.parametrize("guidance", MODES)
def test_a_full_mask_is_no_mask(bare, embeds, guidance):
    applied = small_models.applied(bare, embeds, torch.ones(1, 50, 70), guidance=guidance)
    same(sample(applied), sample(small_models.applied(bare, embeds, guidance=guidance)))


def test_an_empty_mask_is_the_bare_model(bare, embeds):
    same(sample(small_models.applied(bare, embeds, torch.zeros(1, 50, 70), guidance="simple")), sample(bare))


def test_masks_that_tile_the_picture_are_no_mask(bare, embeds):
    left = torch.zeros(1, 37, 53)
    left[..., :20] = 1
    tiled = small_models.applied(
        small_models.applied(bare, embeds, left, guidance="simple"), embeds, 1 - left, guidance="simple"
    )
    close(sample(tiled), sample(small_models.applied(bare, embeds, guidance="simple")))


def test_a_mask_for_each_latent_of_a_batch(bare, embeds):
    masks = torch.stack([torch.zeros(20, 30), torch.ones(20, 30)])
    both = noise(bare, batch=2)
    found = sample(small_models.applied(bare, embeds, masks, guidance="simple"), both)
    close(found[:1], sample(bare, both[:1]))
    close(found[1:], sample(small_models.applied(bare, embeds, guidance="simple"), both[1:]))


def test_an_interrupted_run_leaves_the_next_one_undisturbed(bare, embeds):
    applied = small_models.applied(bare, embeds, guidance="three-way")
    undisturbed = sample(applied)

    def interrupt(step, *args):
        if step == 1:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(applied, callback=interrupt)
    same(sample(applied), undisturbed)
