"""Laws of cutting out and cropping. Bit for bit unless a tolerance is given."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.reference.preparing import (
    crop_around,
    cut_out,
    feathered,
    mask_for_each,
    random_colours,
)
from support.tensors.made_images import CHANNELS, SIZES, in_range, made_images, numbered, same

ORANGE = torch.tensor([[1.0, 0.5, 0.25]])


def mask_of(height: int, width: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """[1, H, W], 1 from top to before bottom and from left to before right."""
    mask = torch.zeros(1, height, width)
    mask[:, top:bottom, left:right] = 1
    return mask


# Masks


def test_one_mask_serves_all_pictures_and_is_brought_to_their_size():
    mask = torch.zeros(1, 20, 30)
    mask[..., :15] = 1
    found = mask_for_each(mask, made_images(3, 40, 60))
    assert found.shape == (3, 40, 60)
    assert found.is_contiguous()
    assert in_range(found)
    same(found[:, :, :28], torch.ones(3, 40, 28))
    same(found[:, :, 32:], torch.zeros(3, 40, 28))


def test_a_mask_of_the_pictures_size_is_not_changed():
    masks = made_images(2, 37, 53)[..., 0]
    same(mask_for_each(masks, made_images(2, 37, 53)), masks)


def test_another_number_of_masks_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"each of the 3 picture.*it is 2 masks\. Connect"):
        mask_for_each(torch.ones(2, 8, 8), made_images(3, 8, 8))


# Cutting out


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_cut_out_with_a_full_mask_is_the_picture_and_with_an_empty_one_the_colour(size, channels):
    image = made_images(2, *size, channels)
    same(cut_out(image, torch.ones(2, *size), ORANGE), image[..., :3])
    same(cut_out(image, torch.zeros(2, *size), ORANGE), ORANGE.expand(2, *size, 3))


def test_a_cut_out_is_the_picture_inside_the_mask_and_the_colour_outside():
    image, mask = made_images(1, 20, 30), mask_of(20, 30, 5, 12, 3, 17)
    found = cut_out(image, mask, ORANGE)
    inside = mask.bool()
    same(found[inside], image[inside])
    same(found[~inside], ORANGE.expand(int((~inside).sum()), 3))


def test_each_picture_has_its_own_colour():
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = cut_out(made_images(2, 4, 5), torch.zeros(2, 4, 5), colours)
    same(found, colours[:, None, None].expand(2, 4, 5, 3))


def test_a_soft_mask_mixes_within_the_range():
    found = cut_out(made_images(2, 64, 64), made_images(2, 64, 64, seed=1)[..., 0], torch.tensor([[0.0, 1.0, 1.0]]))
    assert in_range(found)


@pytest.mark.parametrize("width", [0.5, 8.0, 64.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_feathering_leaves_a_full_mask_full_and_an_empty_one_empty(size, width):
    same(feathered(torch.ones(2, *size), width), torch.ones(2, *size), tolerance=1e-6)
    same(feathered(torch.zeros(2, *size), width), torch.zeros(2, *size))


def test_a_feather_of_0_changes_nothing():
    mask = made_images(1, 9, 9)[..., 0]
    same(feathered(mask, 0.0), mask)


@pytest.mark.parametrize("width", [4.0, 16.0, 64.0])
def test_a_feathered_edge_is_half_at_the_edge_and_two_thirds_of_it_lie_within_the_width(width):
    mask = mask_of(1, 1000, 0, 1, 0, 500)
    edge = feathered(mask, width)[0, 0]
    assert (edge.diff() <= 1e-6).all()
    assert float(edge[499] + edge[500]) == pytest.approx(1, abs=1e-4)
    inside = (edge[499 - int(width / 2)] + edge[500 - int(width / 2)]) / 2  # between pixels, width / 2 from the edge
    assert float(2 * inside - 1) == pytest.approx(0.683, abs=0.015)
    far = int(2 * width) + 1
    assert (edge[: 500 - far] > 0.999).all()
    assert (edge[500 + far :] < 0.001).all()


def test_each_mask_of_a_batch_is_feathered_alone():
    masks = torch.cat([mask_of(30, 40, 5, 20, 5, 20), mask_of(30, 40, 0, 30, 20, 40)])
    same(feathered(masks, 6.0), torch.cat([feathered(mask[None], 6.0) for mask in masks]), tolerance=1e-6)


def test_the_same_seed_draws_the_same_colours_and_another_draws_others():
    image, mask = made_images(3, 6, 6), torch.ones(3, 6, 6)
    first = random_colours(image, mask, seed=2**64 - 1)
    same(random_colours(image, mask, seed=2**64 - 1), first)
    assert not torch.equal(random_colours(image, mask, seed=0), first)


def test_every_picture_of_a_batch_is_given_another_colour():
    found = random_colours(made_images(8, 4, 4), torch.ones(8, 4, 4), seed=5)
    assert len(found.unique(dim=0)) == 8


def test_random_colours_are_8_bit_colours_far_from_the_mean_of_what_is_kept():
    plain = torch.tensor(list(itertools.product([0.0, 0.25, 0.5, 0.75, 1.0], repeat=3)))
    image = 1 - plain[:, None, None].repeat(1, 4, 6, 1)  # what the mask leaves out is the opposite
    image[:, :, :2] = plain[:, None, None]
    mask = torch.zeros(len(plain), 4, 6)
    mask[..., :2] = 1
    for seed in range(20):
        found = random_colours(image, mask, seed)
        assert in_range(found)
        same(found * 255, (found * 255).round(), tolerance=1e-4)
        assert (found - plain).norm(dim=1).min() > 0.43


def test_a_faint_mask_keeps_the_whole_colour():
    image, mask = torch.full((1, 4, 4, 3), 0.75), mask_of(4, 4, 1, 2, 1, 2) / 16
    for seed in range(20):
        same(random_colours(image, mask, seed), random_colours(image, 16 * mask, seed))


def test_a_random_colour_with_nothing_kept_is_a_colour():
    assert in_range(random_colours(made_images(2, 4, 4), torch.zeros(2, 4, 4), seed=1))


# Cropping


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("padding", [0.0, 0.25, 2.0])
def test_a_crop_around_a_full_mask_of_a_square_picture_is_the_picture(channels, padding):
    image, mask = made_images(2, 33, 33, channels), torch.ones(2, 33, 33)
    found, its_mask = crop_around(image, mask, padding)
    same(found, image[..., :3])
    same(its_mask, mask)


def test_a_crop_is_the_square_around_the_mask_with_padding_on_every_side():
    image, mask = numbered(100, 120), mask_of(100, 120, 40, 60, 50, 60)
    found, its_mask = crop_around(image, mask, padding=0.25)
    same(found, image[:, 35:65, 40:70])
    same(its_mask, mask[:, 35:65, 40:70])


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((0, 20, 0, 20), (0, 40, 0, 40)),
        ((80, 100, 100, 120), (60, 100, 80, 120)),
        ((45, 50, 0, 20), (27, 67, 0, 40)),
        ((95, 100, 40, 100), (0, 100, 20, 120)),
    ],
    ids=["upper left", "lower right", "left", "as high as the picture"],
)
def test_a_crop_at_the_pictures_border_is_shifted_inside(box, square):
    image = numbered(100, 120)
    found, _ = crop_around(image, mask_of(100, 120, *box), padding=0.5)
    top, bottom, left, right = square
    same(found, image[:, top:bottom, left:right])


def test_padding_gives_way_where_the_picture_ends():
    image = numbered(30, 100)
    found, _ = crop_around(image, mask_of(30, 100, 5, 25, 40, 60), padding=2.0)
    same(found, image[:, :, 35:65])


def test_a_mark_longer_than_the_pictures_short_side_goes_on_with_the_edges_where_the_mask_is_0():
    image, mask = numbered(10, 50), mask_of(10, 50, 0, 10, 5, 35)
    found, its_mask = crop_around(image, mask, padding=0.0)
    assert found.shape == (1, 30, 30, 3)
    same(found[:, 10:20], image[:, :, 5:35])
    same(found[:, :10], image[:, :1, 5:35].expand(1, 10, 30, 3))
    same(found[:, 20:], image[:, -1:, 5:35].expand(1, 10, 30, 3))
    same(its_mask, mask_of(30, 30, 10, 20, 0, 30))


def test_a_feathered_mask_marks_what_is_over_half_of_its_highest_value():
    image, mask = numbered(20, 20), mask_of(20, 20, 4, 12, 4, 12)
    mask[mask == 0] = 0.1
    found, _ = crop_around(image, 0.4 * mask, padding=0.0)
    same(found, image[:, 4:12, 4:12])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_crop_of_any_size_is_square_and_within_the_range(size):
    image = made_images(1, *size)
    found, its_mask = crop_around(image, torch.ones(1, *size), padding=0.3)
    assert found.shape == (1, max(size), max(size), 3)
    assert its_mask.shape == (1, max(size), max(size))
    assert in_range(found)


def test_crops_of_a_batch_are_those_of_each_alone_enlarged_to_the_largest():
    image = made_images(2, 40, 40)
    masks = torch.cat([mask_of(40, 40, 10, 30, 10, 30), mask_of(40, 40, 4, 8, 20, 24)])
    found, its_masks = crop_around(image, masks, padding=0.0)
    assert found.shape == (2, 20, 20, 3)
    assert in_range(found)
    same(found[:1], image[:1, 10:30, 10:30])
    alone, _ = crop_around(image[1:], masks[1:], padding=0.0)
    enlarged = torch.nn.functional.interpolate(alone.movedim(-1, 1), (20, 20), mode="bicubic", antialias=True)
    enlarged = enlarged.movedim(1, -1)
    same(found[1:], enlarged.clamp(0, 1), tolerance=1e-5)
    same(its_masks, torch.ones(2, 20, 20))


def test_an_empty_mask_is_refused_with_the_pictures_number():
    masks = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])
    with pytest.raises(ValueError, match=r"a part of picture 2; it is empty .*Paint"):
        crop_around(made_images(2, 8, 8), masks, padding=0.25)
