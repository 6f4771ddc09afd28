"""Laws of tiling. Bit for bit unless a tolerance is given."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.reference.preparing import (
    BLANK,
    Grid,
    crop_around,
    tile_grid,
    tiles,
)
from support.tensors.made_images import CHANNELS, SIZES, in_range, made_images, numbered, same


def tiled(image: torch.Tensor, max_tiles: int, overlap: float = 0.125, whole: bool = False) -> torch.Tensor:
    return tiles(image, tile_grid(*image.shape[1:3], max_tiles, overlap), whole)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("side", [1, 224, 225])
def test_a_square_picture_in_one_tile_is_the_picture(side, whole, channels):
    image = made_images(2, side, side, channels)
    same(tiled(image, 1, whole=whole), image[..., :3])


@pytest.mark.parametrize("overlap", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("max_tiles", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("size", [*SIZES, (64, 128), (200, 33)], ids=str)
def test_every_pixel_is_in_some_tile(size, max_tiles, overlap):
    image = numbered(*size)
    found = tiled(image, max_tiles, overlap)
    assert set(image.flatten().tolist()) <= set(found.flatten().tolist())
    assert found.shape[1] == found.shape[2]


def covered(squares: list, height: int, width: int) -> bool:
    rows = {row for square in squares for row in range(square.top, square.top + square.side)}
    columns = {column for square in squares for column in range(square.left, square.left + square.side)}
    return rows >= set(range(height)) and columns >= set(range(width))


def test_grids_of_many_sizes_cover_the_picture_with_no_more_tiles_than_allowed():
    for height, width in itertools.product(range(1, 40, 3), range(1, 90, 4)):
        for max_tiles, overlap in itertools.product((1, 3, 4, 9, 16), (0.0, 0.125, 0.3, 0.5)):
            grid = tile_grid(height, width, max_tiles, overlap)
            squares = grid.squares(height, width)
            assert covered(squares, height, width), (height, width, grid)
            assert len(set(squares)) == grid.tiles <= max_tiles


@pytest.mark.parametrize(
    ("size", "max_tiles", "rows", "columns"),
    [
        ((512, 512), 1, 1, 1),
        ((512, 512), 3, 1, 1),
        ((512, 512), 4, 2, 2),
        ((512, 512), 8, 2, 2),
        ((512, 512), 16, 4, 4),
        ((512, 1024), 2, 1, 2),
        ((512, 1024), 4, 1, 3),
        ((1024, 512), 4, 3, 1),
        ((512, 768), 6, 2, 3),
        ((256, 2048), 16, 1, 9),
    ],
    ids=str,
)
def test_the_grid_follows_the_pictures_proportions(size, max_tiles, rows, columns):
    grid = tile_grid(*size, max_tiles, overlap=0.125)
    assert (grid.rows, grid.columns) == (rows, columns)
    assert grid.side <= min(size)


@pytest.mark.parametrize("overlap", [0.0, 0.125, 0.3, 0.5])
def test_neighbours_share_at_least_the_overlap(overlap):
    grid = tile_grid(600, 900, 6, overlap)
    assert grid.tiles > 1
    for starts in ({s.top for s in grid.squares(600, 900)}, {s.left for s in grid.squares(600, 900)}):
        shared = [grid.side - (after - before) for before, after in itertools.pairwise(sorted(starts))]
        assert min(shared) >= overlap * grid.side - 1


def test_the_overlap_gives_way_before_a_tile_reaches_beyond_the_picture():
    assert tile_grid(512, 1024, 2, overlap=0.5).side == 512
    assert tile_grid(1024, 512, 2, overlap=0.5).side == 512


def test_tiles_come_row_by_row():
    image = numbered(8, 8)
    expected = [image[:, top : top + 4, left : left + 4] for top in (0, 4) for left in (0, 4)]
    same(tiled(image, 4, overlap=0.0), torch.cat(expected))


def test_a_batch_of_pictures_gives_all_their_tiles_one_picture_after_the_other():
    image = made_images(3, 30, 70)
    same(tiled(image, 4, whole=True), torch.cat([tiled(each[None], 4, whole=True) for each in image]))


def test_the_whole_picture_comes_first_at_a_tiles_size():
    smooth = torch.nn.functional.interpolate(made_images(1, 4, 4).movedim(-1, 1), (96, 96), mode="bilinear")
    image = smooth.movedim(1, -1)
    found = tiled(image, 4, overlap=0.0, whole=True)
    assert found.shape == (5, 48, 48, 3)
    assert in_range(found)
    same(found[0], torch.nn.functional.avg_pool2d(smooth, 2).movedim(1, -1)[0], tolerance=0.02)
    same(found[1:], tiled(image, 4, overlap=0.0))


def test_an_elongated_whole_picture_stands_between_blank_borders():
    image = torch.ones(1, 40, 80, 3)
    found = tiled(image, 2, overlap=0.0, whole=True)[0]
    blank = torch.tensor(BLANK).expand(10, 40, 3)
    same(found[:10], blank)
    same(found[10:30], torch.ones(20, 40, 3), tolerance=1e-6)
    same(found[30:], blank)
    same(tiled(image.transpose(1, 2), 2, overlap=0.0, whole=True)[0], found.transpose(0, 1), tolerance=1e-6)


def test_a_picture_far_thinner_than_its_tiles_stands_in_their_middle():
    found = tiles(torch.ones(1, 40, 1, 3), Grid(4, 1, 10), whole=True)
    assert len(found) == 5
    for tile in found:
        is_blank = (tile - torch.tensor(BLANK)).abs().amax(dim=(0, 2)) < 1e-6
        assert [column for column, blank in enumerate(is_blank) if not blank] == [5]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_stay_within_the_range(size, whole):
    assert in_range(tiled(made_images(2, *size).round(), 9, whole=whole))


def test_what_is_just_under_half_of_a_masks_highest_value_is_not_marked():
    mask = torch.zeros(1, 40, 40)
    mask[:, 10:20, 10:20], mask[:, 30:40, 30:40] = 1.0, 0.49
    assert crop_around(torch.rand(1, 40, 40, 3), mask, padding=0.0)[0].shape == (1, 10, 10, 3)
