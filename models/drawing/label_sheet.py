"""Pictures in rows and columns on a white sheet, with labels.

Axes: N pictures, H height, W width.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, LABEL_INK = 255, 30
SMALLEST_FONT, LARGEST_FONT = 12, 48  # of letters, in pixels
NARROWEST = 7  # a column's room for its label, in heights of a letter
MOST_LINES = 4
ELLIPSIS = "..."
LONGEST_LABEL = 1000  # letters that are looked at: fitting n takes n squared, and a font may have some without width
NOT_A_LETTER = "\U0010ffff"  # drawn as the box that stands for a letter the font has not

# Files of fonts of many letters
NOTO = ("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf")
ON_LINUX = ("DejaVuSans.ttf", *NOTO, "wqy-microhei.ttc", "DroidSansFallbackFull.ttf")
ON_WINDOWS = ("arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf")
ON_MACOS = ("Arial.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf")


def labelled_grid(cells: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """Put cells [N, H, W, 3], 0 to 1, row by row on one picture [1, H', W', 3], float32 on the cells' device.

    Labels stand above the columns and left of the rows. Labels that are all empty are left out.
    Without `rows` there are as many rows as the columns ask for, and the other way round. The cells' values are
    kept bit for bit; cells that are narrower than a readable label are set apart.
    Raises ValueError when the number of cells is another than rows times columns.
    """
    n_rows, n_columns = grid_shape(len(cells), rows, columns)
    height, width = cells.shape[1:3]
    letter = min(max(min(height, width) // 20, SMALLEST_FONT), LARGEST_FONT)
    font = font_for("".join((*rows, *columns)), letter)
    line, gap = _line(font), max(2, letter // 4)
    above = [wrapped(text, font, max(width, NARROWEST * letter), MOST_LINES) for text in columns]
    beside = [wrapped(text, font, max(width // 2, NARROWEST * letter), max(height // line, 1)) for text in rows]
    above_height, beside_width = line * _most_lines(above), _width(beside, font)
    slot_height, slot_width = max(height, line * _most_lines(beside)), max(width, _width(above, font))
    top = gap + (above_height + gap if above_height else 0)
    left = gap + (beside_width + 2 * gap if beside_width else 0)
    tops = [top + row * (slot_height + gap) for row in range(n_rows)]
    lefts = [left + column * (slot_width + gap) for column in range(n_columns)]

    sheet = Image.new("L", (lefts[-1] + slot_width + gap, tops[-1] + slot_height + gap), PAPER)
    for left, lines in zip(lefts, above, strict=False):  # there may be none
        _draw(sheet, lines, font, left + slot_width / 2, gap + above_height / 2)
    for top, lines in zip(tops, beside, strict=False):
        _draw(sheet, lines, font, gap + beside_width / 2, top + slot_height / 2)
    grey = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8).view(sheet.height, sheet.width, 1)
    paper = (grey / 255).repeat(1, 1, 3).to(cells.device)
    for cell, (top, left) in zip(cells, itertools.product(tops, lefts), strict=True):
        top, left = top + (slot_height - height) // 2, left + (slot_width - width) // 2
        paper[top : top + height, left : left + width] = cell[..., :3]
    return paper.unsqueeze(0)


def grid_shape(cells: int, rows: Sequence[str], columns: Sequence[str]) -> tuple[int, int]:
    """Return the numbers of rows and columns: one a label, or what the cells leave for the other. No labels: one row.

    Raises ValueError when they are not as many as the cells.
    """
    n_columns = len(columns) or max(cells // len(rows), 1) if rows else len(columns) or cells
    n_rows = len(rows) or max(cells // n_columns, 1)
    if n_rows * n_columns != cells:
        raise ValueError(
            f"{n_rows} x {n_columns} = {n_rows * n_columns} pictures were expected, by the labels of {n_rows} row(s) "
            f"and {n_columns} column(s); there are {cells}. Write one label a line for each row and each column, or "
            "none for the rows."
        )
    return n_rows, n_columns


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """Break the text into at most `most` lines of at most this width; what is still too long ends in an ellipsis.

    A line ends at a space, else after any letter, and has one letter in any case.
    """
    lines: list[str] = []
    words = " ".join(text.split())
    rest = words[:LONGEST_LABEL]
    while rest and len(lines) < most:
        end = 1
        while end < len(rest) and font.getlength(rest[: end + 1]) <= width:
            end += 1
        space = rest.rfind(" ", 0, end + 1)
        if end < len(rest) and space > 0:
            end = space
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest or len(words) > LONGEST_LABEL:
        last = lines[-1]
        while last and font.getlength(last + ELLIPSIS) > width:
            last = last[:-1]
        lines[-1] = last.rstrip() + ELLIPSIS
    return lines


def _line(font: ImageFont.FreeTypeFont) -> int:
    return sum(font.getmetrics()) + 1


def _most_lines(labels: Iterable[list[str]]) -> int:
    return max(map(len, labels), default=0)


def _width(labels: Iterable[list[str]], font: ImageFont.FreeTypeFont) -> int:
    return max((int(font.getlength(line)) + 1 for lines in labels for line in lines), default=0)


def _draw(sheet: Image.Image, lines: list[str], font: ImageFont.FreeTypeFont, middle: float, centre: float) -> None:
    top = centre - _line(font) * len(lines) / 2
    for number, line in enumerate(lines):
        place = round(middle - font.getlength(line) / 2), round(top + number * _line(font))
        ImageDraw.Draw(sheet).text(place, line, fill=LABEL_INK, font=font)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, or one of the system's when that has more of the text's letters.

    Pillow's has Latin letters without accents. Pillow looks for the others in the system's font folders.
    """
    own = cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # Pillow's wheels have FreeType
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    if not missing(own, letters):
        return own
    others = (_system_font(name, size) for name in (*ON_LINUX, *ON_WINDOWS, *ON_MACOS))
    fonts = (own, *filter(None, others))
    return min(fonts, key=lambda font: missing(font, letters))


def missing(font: ImageFont.FreeTypeFont, letters: set[str]) -> int:
    """Return how many of the letters the font lacks."""

    def drawn(letter: str) -> bytes:
        return bytes(cast("Sequence[int]", font.getmask(letter)))

    return [drawn(letter) for letter in letters].count(drawn(NOT_A_LETTER))


@functools.lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
