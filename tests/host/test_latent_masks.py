"""Masks over batches of latents, beside test_laws on masks for all. Bit for bit unless a tolerance is given."""

import pytest
import torch
from ipadapter_instruct.models.denoisers.rows import MOST_CACHED, BatchRows, SiteMasks
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.pixels import mask_batch
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from support import small_models
from support.sampling.host_samplers import CFG, SEED, STEPS
from support.sampling.scenes import text
from support.sampling.short_runs import close, noise, same, sample

import nodes as host_nodes

MODES = ["simple", "three-way"]
LATENTS = 3


@pytest.fixture(scope="module")
def each(embeds):
    """A picture for each latent."""
    rolled = embeds.image_tokens.map(lambda t: torch.cat([t.roll(7 * n, dims=-1) for n in range(LATENTS)]))
    return InstructEmbeds(embeds.adapter, "", rolled)


@pytest.fixture(scope="module")
def batch(bare):
    return noise(bare, LATENTS, 8, 12)


def soft_masks(number: int = LATENTS, height: int = 37, width: int = 53) -> torch.Tensor:
    return torch.rand(number, height, width, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("guidance", MODES)
def test_each_latent_has_its_mask_as_in_a_run_of_its_own(bare, embeds, batch, guidance):
    masks = soft_masks()
    apart = [
        sample(small_models.applied(bare, embeds, mask[None], guidance=guidance), latent[None])
        for mask, latent in zip(masks, batch, strict=True)
    ]
    close(sample(small_models.applied(bare, embeds, masks, guidance=guidance), batch), torch.cat(apart))


@pytest.mark.parametrize("guidance", MODES)
def test_each_latent_has_its_mask_and_its_reference(bare, each, batch, guidance):
    masks = soft_masks()
    apart = []
    for n, latent in enumerate(batch):
        own = InstructEmbeds(each.adapter, "", each.image_tokens.map(lambda t, n=n: t[n : n + 1]))
        apart.append(sample(small_models.applied(bare, own, masks[n : n + 1], guidance=guidance), latent[None]))
    close(sample(small_models.applied(bare, each, masks, guidance=guidance), batch), torch.cat(apart))


def test_masks_begin_again_when_there_are_more_latents(bare, embeds, batch):
    masks = soft_masks(2)
    found, expected = (sample(small_models.applied(bare, embeds, m), batch) for m in (masks, masks[[0, 1, 0]]))
    same(found, expected)


def test_one_mask_is_for_all_latents(bare, embeds, batch):
    mask = soft_masks(1)
    found, expected = (
        sample(small_models.applied(bare, embeds, m), batch) for m in (mask, mask.expand(LATENTS, -1, -1))
    )
    same(found, expected)


@pytest.mark.parametrize("guidance", MODES)
def test_full_masks_are_none_for_latents_with_references_of_their_own(bare, each, batch, guidance):
    found = sample(small_models.applied(bare, each, torch.ones(LATENTS, 20, 31), guidance=guidance), batch)
    same(found, sample(small_models.applied(bare, each, guidance=guidance), batch))


def test_a_mask_of_one_grey_is_a_weight(bare, embeds, batch):
    greys = (1.0, 0.25, 0.5)
    masks = torch.stack([torch.full((20, 30), grey) for grey in greys])
    weighted = small_models.applied(bare, embeds, guidance="simple", batch_factors=greys)
    close(sample(small_models.applied(bare, embeds, masks, guidance="simple"), batch), sample(weighted, batch))


@pytest.mark.spread("family", "size")
@pytest.mark.parametrize("size", [(8, 12), (37, 53), (5, 90), (64, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("latent", [(8, 12), (9, 13)], ids=str)
def test_soft_masks_that_tile_the_picture_are_no_mask_at_any_size(bare, each, size, latent):
    batch, mask = noise(bare, 2, *latent), soft_masks(2, *size)
    first = small_models.applied(bare, each, mask, guidance="simple", weight=0.6)
    tiled = small_models.applied(first, each, 1 - mask, guidance="simple", weight=0.6)
    close(sample(tiled, batch), sample(small_models.applied(bare, each, guidance="simple", weight=0.6), batch))


def test_values_outside_0_and_1_count_as_these(bare, embeds, batch):
    masks = 3 * soft_masks() - 1
    found, expected = (sample(small_models.applied(bare, embeds, m), batch) for m in (masks, masks.clamp(0, 1)))
    same(found, expected)


@pytest.mark.parametrize("guidance", MODES)
def test_areas_keep_every_latents_reference_and_mask(bare, family, each, guidance):
    """A batch with a prompt for a part of the picture is as many runs with one latent."""
    masks, batch = soft_masks(), noise(bare, LATENTS)

    def run(model, latents):
        positive, negative = (text(name, family) for name in ("positive", "negative"))
        second = text("second", family)
        conds = [[[t.context, t.values]] for t in (positive, negative)]
        conds[0].append([second.context, {**second.values, "area": (4, 6, 2, 3), "strength": 1.0}])
        latent = {"samples": latents}
        return host_nodes.KSampler().sample(model, SEED, STEPS, CFG, "euler", "normal", *conds, latent, 0.6)[0]

    # The host's noise differs along a batch, so each run has the whole batch and counts for its own latent.
    found = run(small_models.applied(bare, each, masks, guidance=guidance), batch)["samples"]
    for n in range(LATENTS):
        own = InstructEmbeds(each.adapter, "", each.image_tokens.map(lambda t, n=n: t[n : n + 1]))
        expected = run(small_models.applied(bare, own, masks[n : n + 1], guidance=guidance), batch)["samples"]
        close(found[n], expected[n])


CHANNEL_AXES = {
    "last": lambda masks: masks[..., None],
    "first": lambda masks: masks[:, None],
    "none": lambda masks: masks,
}
each_axis = pytest.mark.parametrize("axis", CHANNEL_AXES)


@pytest.mark.spread("family", "axis")
@each_axis
@pytest.mark.parametrize("number", [1, LATENTS])
@pytest.mark.parametrize("guidance", MODES)
def test_a_channel_axis_makes_no_more_masks_of_the_latents_masks(bare, embeds, batch, axis, number, guidance):
    masks = soft_masks(number)
    found, expected = (
        sample(small_models.applied(bare, embeds, m, guidance=guidance), batch)
        for m in (CHANNEL_AXES[axis](masks), masks)
    )
    same(found, expected)
    assert not torch.equal(found, sample(bare, batch))


@each_axis
@pytest.mark.parametrize("shape", [(1, 6, 9), (4, 6, 9), (1, 9, 1), (3, 9, 1), (3, 9, 3), (2, 1, 1)], ids=str)
def test_masks_of_every_size_are_themselves_with_any_channel_axis(axis, shape):
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    same(mask_batch(CHANNEL_AXES[axis](masks), "attn_mask"), masks)
    if len(masks) == 1:
        same(mask_batch(masks[0], "attn_mask"), masks)


def test_several_masks_as_narrow_as_a_channel_axis_are_said(bare, embeds):
    """[H, W, 1] cannot be told from H masks one pixel wide, which it is by ComfyUI's order of axes."""
    node = lambda mask: apply_instruct(bare, embeds, ApplySettings(), mask)[1]  # noqa: E731
    line = "attn_mask: 37 masks of 53 x 1 (height x width), one for each latent in turn"
    assert line in node(soft_masks(1)[0, ..., None])
    assert not [one for one in node(soft_masks(3)) + node(soft_masks(1, 9, 1)) if one.startswith("attn_mask")]


def rows(latent_size: tuple[int, int], areas: tuple, batch_indices: tuple[int, ...]) -> BatchRows:
    return BatchRows((Branch.FULL,) * len(areas), areas, latent_size, latent_size, batch_indices)


def test_an_areas_part_is_cut_out_of_each_latents_mask():
    masks = torch.zeros(2, 4, 8)
    masks[0, :, :4] = 1
    masks[1, 2:] = 0.5
    like = torch.zeros(1)
    found = SiteMasks(masks).at((2, 4), rows((4, 8), (None, (2, 4, 2, 0)), (1, 0)), like)
    assert found.shape == (4, 8, 1)
    expected = [[[0, 0, 0, 0], [0.5] * 4], [[1, 1, 0, 0]] * 2, [[0.5] * 4] * 2, [[1.0] * 4] * 2]
    torch.testing.assert_close(found.reshape(4, 2, 4), torch.tensor(expected))


def test_windows_that_move_on_and_on_do_not_gather_masks():
    masks, like = SiteMasks(soft_masks(1000, 4, 4)), torch.zeros(1)
    for batch_index in range(1000):
        found = masks.at((2, 2), rows((4, 4), (None,), (batch_index,)), like)
    assert len(masks._cached) <= MOST_CACHED
    same(found, SiteMasks(masks._mask).at((2, 2), rows((4, 4), (None,), (999,)), like))


@pytest.mark.parametrize("size", [(1, 64), (64, 1), (2, 64), (3, 7), (1, 2), (5, 1)], ids=str)
def test_a_mask_of_ones_is_no_mask_for_sd3_latents_of_any_shape(size):
    """SD3's patches are 2 x 2, of which the last row and column may be half empty. Bit for bit."""
    bare, embeds = small_models.small_model("sd3"), small_models.golden_embeds("sd3")
    start = noise(bare, 1, *size)
    same(
        sample(small_models.applied(bare, embeds, torch.ones(1, 37, 53)), start),
        sample(small_models.applied(bare, embeds), start),
    )
