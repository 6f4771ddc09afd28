"""Points of several groups on a plane, with a legend.

Axes: N points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...models.drawing.label_sheet import ELLIPSIS, font_for

# Colours that most eyes tell apart, on white. The first seven: Paul Tol's "bright" (2021), in another order.
COLOURS = (
    (68, 119, 170),
    (238, 102, 119),
    (34, 136, 51),
    (204, 187, 68),
    (102, 204, 238),
    (170, 51, 119),
    (230, 126, 34),
    (40, 40, 40),
    (187, 187, 187),
    (121, 85, 72),
    (0, 150, 136),
    (106, 61, 154),
)
DISC, CROSS, SQUARE = "disc", "cross", "square"
FINER = 2  # drawn so much larger, and made smaller
INK_BLACK, GREY = (30, 30, 30), (120, 120, 120)
EDGE, LEGEND_WIDTH = 40, 340
LETTER, RADIUS = 16, 5
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A point's group, its shape, whether a ring is drawn around it, and words beside it or none."""

    group: str
    shape: str = DISC
    ringed: bool = False
    words: str = ""


@dataclass(frozen=True)
class Legend:
    """The words beside a drawing: heading, groups in order with what is said of each, and what shapes stand for."""

    heading: str
    groups: Mapping[str, str]
    shapes: Mapping[str, str]
    ring: str


def scatter(points: Tensor, marks: Sequence[Mark], legend: Legend, title: str, side: int = 900) -> Image.Image:
    """Draw points [N, 2] as a picture, `side` high. Words that would cover other words are left out."""
    width = side + LEGEND_WIDTH
    image = Image.new("RGB", (width * FINER, side * FINER), "white")
    pen = ImageDraw.Draw(image)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(legend.groups)}
    placed = sorted(zip(_places(points, side), marks, strict=True), key=lambda one: one[1].shape != DISC)
    for place, mark in placed:
        _draw_mark(pen, place, mark, colours[mark.group])
    written: list[Box] = []
    for place, mark in placed:
        if mark.words:
            _write_beside(pen, place, mark.words, side, written)
    _write(pen, (EDGE, 12), title, width - EDGE)
    _draw_legend(pen, marks, legend, colours, side)
    return image.resize((width, side), Image.Resampling.LANCZOS)


def _places(points: Tensor, side: int) -> list[tuple[float, float]]:
    """Return the points' places in pixels; both axes have one scale."""
    low, high = points.min(0).values, points.max(0).values
    span = max(float((high - low).max()), 1e-12)
    room = side - 3 * EDGE
    inside = (points - (low + high) / 2) / span * room + torch.tensor([side / 2, side / 2 + EDGE / 2])
    return [(float(x), float(side - y + EDGE)) for x, y in inside.tolist()]


def _draw_mark(pen: ImageDraw.ImageDraw, place: tuple[float, float], mark: Mark, colour: tuple[int, int, int]) -> None:
    x, y = (FINER * value for value in place)
    small, large, ring = FINER * RADIUS, FINER * RADIUS * 3 // 2, FINER * RADIUS * 2
    if mark.ringed:
        pen.ellipse([x - ring, y - ring, x + ring, y + ring], outline=INK_BLACK, width=FINER)
    if mark.shape == CROSS:
        for thickness, ink in ((FINER * 6, "white"), (FINER * 3, colour)):
            pen.line([(x - large, y - large), (x + large, y + large)], ink, thickness)
            pen.line([(x - large, y + large), (x + large, y - large)], ink, thickness)
        return
    draw = pen.rectangle if mark.shape == SQUARE else pen.ellipse
    draw([x - small, y - small, x + small, y + small], fill=colour, outline="white", width=FINER // 2)


def _draw_legend(
    pen: ImageDraw.ImageDraw,
    marks: Sequence[Mark],
    legend: Legend,
    colours: Mapping[str, tuple[int, int, int]],
    side: int,
) -> None:
    used = {mark.shape for mark in marks}
    rows = [(Mark(name), colours[name], f"{name}: {words}") for name, words in legend.groups.items()]
    rows += [(Mark("", shape), GREY, words) for shape, words in legend.shapes.items() if shape in used]
    rows += [(Mark("", ringed=True), GREY, legend.ring)] if any(mark.ringed for mark in marks) else []
    _write(pen, (side, 2 * EDGE), legend.heading, LEGEND_WIDTH - 8)
    for number, (mark, colour, words) in enumerate(rows, start=1):
        top = 2 * EDGE + number * (LETTER + 12) + (LETTER if number > len(legend.groups) else 0)
        _draw_mark(pen, (side + 12, top + LETTER * 0.6), mark, colour)
        _write(pen, (side + 30, top), words, LEGEND_WIDTH - 38)


def _write_beside(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], words: str, side: int, written: list[Box]
) -> None:
    """Write words right of a point, or left of it where there is no room, unless they would cover others."""
    length = font_for(words, LETTER).getlength(words)
    right = place[0] + 2 * RADIUS + 3
    left = right if right + length < side - 8 else place[0] - 2 * RADIUS - 3 - length
    box = (left, place[1] - LETTER * 0.7, left + length, place[1] + LETTER * 0.6)
    if left >= 0 and not any(_overlap(box, other) for other in written):
        written.append(box)
        _write(pen, box[:2], words, side)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], words: str, most: float) -> None:
    """Write words in at most so many pixels, with a white edge."""
    font = font_for(words, LETTER * FINER)
    shown = words
    while len(shown) > len(ELLIPSIS) and font.getlength(shown) > most * FINER:
        shown = shown.removesuffix(ELLIPSIS)[:-1] + ELLIPSIS
    x, y = place
    pen.text((FINER * x, FINER * y), shown, INK_BLACK, font, stroke_width=2 * FINER, stroke_fill="white")
