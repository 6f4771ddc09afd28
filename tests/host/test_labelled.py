"""Label a Grid of Pictures: cells keep their bits, labels stand where they belong and can be read."""

import itertools

import pytest
import torch
from ipadapter_instruct.models.drawing.label_sheet import SMALLEST_FONT, font_for, labelled_grid, missing, wrapped
from ipadapter_instruct.nodes.explore.label_grid import IPAdapterInstructLabelGrid
from PIL import ImageFont
from support.pack_nodes import run_node

LONG = "use the style of the painting, its brush strokes and its palette, but none of the things that it shows"


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(count))


def corner_of(cell: torch.Tensor, sheet: torch.Tensor) -> tuple[int, int]:
    """Top and left of the only place where the sheet [1, H, W, 3] holds the cell, bit for bit."""
    height, width = cell.shape[:2]
    begins = (sheet[0] == cell[0, 0]).all(dim=-1).nonzero().tolist()
    ((y, x),) = ((y, x) for y, x in begins if torch.equal(sheet[0, y : y + height, x : x + width], cell))
    return y, x


def dark(part: torch.Tensor) -> bool:
    return bool((part < 0.5).any())


@pytest.mark.parametrize("size", [(8, 8), (16, 200), (200, 16), (64, 96), (512, 512)])
def test_cells_stand_in_rows_and_columns_bit_for_bit(size):
    cells = pictures(6, *size)
    sheet = labelled_grid(cells, ["a", LONG], ["b", "c", LONG])
    corners = [corner_of(cell, sheet) for cell in cells]

    tops, lefts = (sorted({corner[axis] for corner in corners}) for axis in (0, 1))
    assert corners == list(itertools.product(tops, lefts))
    assert [len(tops), len(lefts)] == [2, 3]
    assert all(b - a >= size[0] for a, b in itertools.pairwise(tops))
    assert all(b - a >= size[1] for a, b in itertools.pairwise(lefts))


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (300, 200)])
def test_labels_stand_above_the_columns_and_left_of_the_rows(size):
    cells = pictures(4, *size)
    sheet = labelled_grid(cells, ["first", ""], ["", "second"])
    (top, left), _, (lower, _), (_, right) = (corner_of(cell, sheet) for cell in cells)

    assert dark(sheet[0, :top, right : right + size[1]])
    assert not dark(sheet[0, : top - SMALLEST_FONT // 2, : left + size[1]])
    assert dark(sheet[0, :lower, :left])
    assert not dark(sheet[0, lower:, :left])


def test_without_labels_there_are_only_thin_gaps():
    cells = pictures(4, 40, 50)
    for rows, columns in (([], ["", ""]), (["", ""], []), (["", ""], ["", ""])):
        sheet = labelled_grid(cells, rows, columns)
        gap = (sheet.shape[1] - 80) // 3
        assert sheet.shape == (1, 80 + 3 * gap, 100 + 3 * gap, 3)
        assert 1 <= gap <= 5


def test_a_long_label_is_wrapped_and_then_cut():
    font = ImageFont.load_default(12)
    whole = wrapped(LONG, font, 200, 20)
    assert " ".join(whole) == LONG
    cut = wrapped(LONG, font, 200, 2)
    assert cut[0] == whole[0]
    assert cut[1].endswith("...")
    assert all(font.getlength(line) <= 200 for line in (*whole, *cut))


def test_a_label_is_cut_after_a_thousand_letters_even_where_there_is_room():
    font = font_for("", SMALLEST_FONT)
    assert wrapped("x" * 1000, font, 1e6, 1) == ["x" * 1000]
    assert wrapped("x" * 90_000, font, 1e6, 1) == ["x" * 1000 + "..."]


def test_a_text_without_spaces_is_wrapped_within_itself():
    font = ImageFont.load_default(12)
    lines = wrapped("x" * 100, font, 60, 100)
    assert "".join(lines) == "x" * 100
    assert len(lines) > 5
    assert all(font.getlength(line) <= 60 for line in lines)


def test_letters_are_never_smaller_than_can_be_read():
    heights = {}
    for side in (8, 64, 1024):
        sheet = labelled_grid(pictures(1, side, side), [], ["Hhg"])
        rows = (sheet[0, : corner_of(pictures(1, side, side)[0], sheet)[0]] < 0.5).any(dim=-1).any(dim=-1)
        heights[side] = int(rows.sum())
    assert heights[8] == heights[64] >= 9
    assert heights[1024] > 2 * heights[64]


def test_letters_that_pillows_font_has_not_are_taken_from_another_where_there_is_one():
    own = ImageFont.load_default(20)
    assert missing(own, {"a"}) == 0
    assert missing(own, {"\u98a8"}) == 1
    assert missing(font_for("\u98a8a", 20), {"\u98a8", "a"}) <= missing(own, {"\u98a8", "a"})
    assert font_for("use the style 0.8", 20).getname() == own.getname()


# The node


def label(images, **changes):
    return run_node(IPAdapterInstructLabelGrid, **{"images": images, "row_labels": "", "column_labels": "", **changes})


def test_the_node_takes_one_label_a_line():
    images = pictures(6, 32, 48)
    grid, same = label(images, row_labels="a\nb\n", column_labels="c\nd\ne").args
    assert torch.equal(grid, labelled_grid(images, ["a", "b"], ["c", "d", "e"]))
    assert torch.equal(same, images)


def test_without_any_label_the_pictures_are_one_column():
    images = pictures(3, 32, 48)
    assert torch.equal(label(images).args[0], labelled_grid(images, [], [""]))


def test_cells_get_the_width_that_is_asked_for_in_proportion():
    images = pictures(2, 32, 48)
    half, whole, double = (label(images, cell_width=width).args[0] for width in (24, 48, 96))
    assert torch.equal(whole, label(images).args[0])
    assert half.shape[1] < whole.shape[1] - 16
    assert double.shape[1:3] >= (2 * 64, 96)
    assert bool(((double >= 0) & (double <= 1)).all())


@pytest.mark.parametrize(
    ("count", "labels"),
    [
        (5, {"row_labels": "a\nb", "column_labels": "c\nd"}),
        (5, {"column_labels": "c\nd"}),
        (3, {"row_labels": "a\nb"}),
        (1, {"row_labels": "a\nb"}),
    ],
)
def test_another_number_of_pictures_than_labels_is_refused(count, labels):
    with pytest.raises(ValueError, match=rf"pictures were expected, by the labels .* there are {count}\."):
        label(pictures(count, 8, 8), **labels)


@pytest.mark.parametrize("labels", ["row_labels", "column_labels"])
def test_half_an_emoji_in_a_label_is_refused_in_words(labels):
    with pytest.raises(ValueError, match=rf"{labels} was expected .* letter 3 is half of one"):
        label(pictures(1, 8, 8), **{labels: "a \ud83d"})


def test_more_cells_follow_in_the_order_of_their_names():
    one, two, three = pictures(3, 16, 24).split(1)
    grid, images = label(one, column_labels="a\nb\nc", more_002=three, more_001=two).args
    assert torch.equal(images, torch.cat([one, two, three]))
    assert torch.equal(grid, labelled_grid(images, [], ["a", "b", "c"]))
