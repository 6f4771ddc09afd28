"""Pictures in rows and columns on a white sheet, with labels.

Axes: N pictures, H height, W width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .label_font import font_for

PAPER, LABEL_INK = 255, 30
SMALLEST_FONT, LARGEST_FONT = 12, 48  # of letters, in pixels
NARROWEST = 7  # a column's room for its label, in heights of a letter
MOST_LINES = 4
ELLIPSIS = "..."
LONGEST_LABEL = 1000  # letters that are looked at: fitting n takes n squared, and a font may have some without width


def labelled_grid(cells: Tensor, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Tensor:
    """Put cells [N, H, W, 3], 0 to 1, row by row on one picture [1, H', W', 3], float32 on the cells' device.

    Labels stand above the columns and left of the rows, a title above all. Labels that are all empty are left out.
    Without `rows` there are as many rows as the columns ask for, and the other way round. The cells' values are
    kept bit for bit; cells that are narrower than a readable label are set apart.
    Raises ValueError when the number of cells is another than rows times columns.
    """
    count = grid_shape(len(cells), rows, columns)
    sheet = _Sheet.of(count, (cells.shape[1], cells.shape[2]), rows, columns, title)
    paper = sheet.drawn().to(cells.device)
    for cell, (top, left) in zip(cells, sheet.corners(), strict=True):
        paper[top : top + cell.shape[0], left : left + cell.shape[1]] = cell[..., :3]
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
    """Break the text into at most `most` lines of at most this width; what is still too long ends in an ellipsis."""
    lines: list[str] = []
    words = " ".join(text.split())
    rest = words[:LONGEST_LABEL]
    while rest and len(lines) < most:
        line = _first_line(rest, font, width)
        lines.append(line)
        rest = rest[len(line) :].lstrip()
    if rest or len(words) > LONGEST_LABEL:
        lines[-1] = _shortened(lines[-1], font, width)
    return lines


def _first_line(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return as much of the text as fits: up to a space, else up to any letter, and one letter in any case."""
    end = _fitting(text, font, width)
    if end < len(text):
        space = text.rfind(" ", 0, end + 1)
        end = space if space > 0 else end
    return text[:end].rstrip()


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """Return how many of the text's first letters fit, 1 at least."""
    end = 1
    while end < len(text) and font.getlength(text[: end + 1]) <= width:
        end += 1
    return end


def _shortened(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    while line and font.getlength(line + ELLIPSIS) > width:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS


@dataclass(frozen=True)
class _Labels:
    """Labels of one kind, in lines."""

    labels: tuple[list[str], ...]
    font: ImageFont.FreeTypeFont

    @property
    def line(self) -> int:
        """The height of a line."""
        return sum(self.font.getmetrics()) + 1

    @property
    def width(self) -> int:
        return max((int(self.font.getlength(line)) + 1 for lines in self.labels for line in lines), default=0)

    @property
    def height(self) -> int:
        return self.line * max(map(len, self.labels), default=0)

    def draw(self, canvas: ImageDraw.ImageDraw, number: int, middle: float, top: float, height: int) -> None:
        """Draw one label around `middle` from left to right, and in the middle of top to top + height."""
        lines = self.labels[number]
        top += (height - self.line * len(lines)) / 2
        for line in lines:
            left = middle - self.font.getlength(line) / 2
            canvas.text((round(left), round(top)), line, fill=LABEL_INK, font=self.font)
            top += self.line


@dataclass(frozen=True)
class _Sheet:
    """The places on a sheet. A slot, height and width, is a cell's room, which a label may widen.

    tops, lefts: of the rows of slots, and of the columns.
    """

    cell: tuple[int, int]
    slot: tuple[int, int]
    gap: int
    title: _Labels
    above: _Labels
    beside: _Labels
    tops: list[int]
    lefts: list[int]

    @classmethod
    def of(cls, count: tuple[int, int], cell: tuple[int, int], rows, columns, title: str) -> _Sheet:
        letter = min(max(min(cell) // 20, SMALLEST_FONT), LARGEST_FONT)
        font = font_for("".join((title, *rows, *columns)), letter)
        gap = max(2, letter // 4)

        def labels(texts: Sequence[str], width: int, most: int = MOST_LINES) -> _Labels:
            return _Labels(tuple(wrapped(text, font, width, most) for text in texts), font)

        above = labels(columns, max(cell[1], NARROWEST * letter if any(columns) else 0))
        beside = labels(rows, max(cell[1] // 2, NARROWEST * letter), max(cell[0] // above.line, 1))
        slot = max(cell[0], beside.height), max(cell[1], above.width)
        head = labels([title], count[1] * (slot[1] + gap) - gap)
        top = gap + sum(part.height + gap for part in (head, above) if part.height)
        left = gap + (beside.width + 2 * gap if beside.width else 0)
        tops = [top + row * (slot[0] + gap) for row in range(count[0])]
        lefts = [left + column * (slot[1] + gap) for column in range(count[1])]
        return cls(cell, slot, gap, head, above, beside, tops, lefts)

    def corners(self) -> list[tuple[int, int]]:
        """Each cell's top and left, in the middle of its slot, row by row."""
        spare = [(slot - cell) // 2 for slot, cell in zip(self.slot, self.cell, strict=True)]
        return [(top + spare[0], left + spare[1]) for top, left in itertools.product(self.tops, self.lefts)]

    def drawn(self) -> Tensor:
        """The sheet with its labels and without its cells, [H', W', 3]."""
        height, width = self.tops[-1] + self.slot[0] + self.gap, self.lefts[-1] + self.slot[1] + self.gap
        sheet = Image.new("L", (width, height), PAPER)
        canvas = ImageDraw.Draw(sheet)
        self.title.draw(canvas, 0, width / 2, self.gap, self.title.height)
        for number, left in enumerate(self.lefts if self.above.labels else ()):
            top = self.tops[0] - self.above.height - self.gap
            self.above.draw(canvas, number, left + self.slot[1] / 2, top, self.above.height)
        for number, top in enumerate(self.tops if self.beside.labels else ()):
            self.beside.draw(canvas, number, self.gap + self.beside.width / 2, top, self.slot[0])
        grey = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8).view(height, width, 1)
        return (grey / 255).repeat(1, 1, 3)
