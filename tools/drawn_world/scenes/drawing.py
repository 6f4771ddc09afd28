"""Scenes as images. A drawing is an array [side, side, 4] of premultiplied RGBA in 0..1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from drawn_world.scenes.rendering import ALL, resized
from drawn_world.scenes.scene import (
    CONCEPTS,
    GROUNDS,
    NATURAL,
    OTHER_SETS,
    SIDE,
    TINTS,
    Scene,
    set_of,
    square_of,
    style_of,
)
from drawn_world.storage import STORED, world_folder

Change = Callable[[np.ndarray], np.ndarray]  # of a drawing
BLACK = 0.13  # as dark as pictograms are
MARGIN = 0.92  # share of the side that a drawing fills
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)
DARKEST, MIDDLE = 0.35, 0.55  # luminance of a tinted drawing, at least, and where it has the colour itself


class Drawings:
    """All drawings at both sizes: of all sets if they were rendered, else of the five styles."""

    def __init__(self, path: Path | None = None) -> None:
        every = world_folder() / ALL
        with np.load(path or (every if every.is_file() else STORED / ALL)) as file:
            self.pixels = {name: file[name] for name in file.files}
        self.made: dict[tuple[str, str, int], np.ndarray] = {}

    def has(self, concept: str, style: str) -> bool:
        return f"{set_of(style)}/{concept}" in self.pixels

    def at(self, concept: str, style: str, side: int) -> np.ndarray:
        """A drawing [side, side, 4] with a small margin."""
        key = (concept, style, side)
        if key not in self.made:
            inner = int(side * MARGIN) // 2 * 2
            pad = (side - inner) // 2
            drawn = resized(self.pixels[f"{set_of(style)}/{concept}"].astype(np.float32), inner)
            drawn[..., :3] = np.minimum(drawn[..., :3], drawn[..., 3:])
            self.made[key] = np.pad(drawn, ((pad, pad), (pad, pad), (0, 0)))
        return self.made[key].astype(np.float32) / 255


@functools.cache
def drawings() -> Drawings:
    return Drawings()


@functools.cache
def more_drawings() -> tuple[tuple[str, str], ...]:
    """All drawings of things that are no concept of the world: names, and styles or other sets."""
    found = (key.split("/") for key in sorted(drawings().pixels))
    return tuple((word, style_of(own)) for own, word in found if word not in CONCEPTS)


def other_sets_drawings() -> list[tuple[str, str]]:
    """All drawings of concepts in sets that the world does not draw in: concepts and sets."""
    return [(concept, name) for concept in CONCEPTS for name in OTHER_SETS if drawings().has(concept, name)]


def draw(scene: Scene, shift: tuple[int, int] = (0, 0), change: Change | None = None) -> np.ndarray:
    """The image [96, 96, 3] of a scene, 0..1; its drawings moved and changed where asked."""
    image = ground(scene.ground).copy()
    for concept, place in zip(scene.concepts, scene.places, strict=True):
        left, top, side = square_of(place)
        drawing = tinted(drawings().at(concept, scene.style, side), scene.tint)
        put(image, change(drawing) if change else drawing, left + shift[0], top + shift[1])
    return image


def in_grey(drawing: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat((drawing[..., :3] @ LUMINANCE)[..., None], 3, -1), drawing[..., 3:]], -1)


def outlines(drawing: np.ndarray) -> np.ndarray:
    """Draw the edges of luminance and alpha in black, on white."""
    lines, white = bare_outlines(drawing), np.repeat(drawing[..., 3:], 4, -1)
    return white * (1 - lines[..., 3:]) + lines


def bare_outlines(drawing: np.ndarray) -> np.ndarray:
    light = drawing[..., :3] @ LUMINANCE + 1 - drawing[..., 3]
    steps = [ndimage.maximum_filter(x, 3) - ndimage.minimum_filter(x, 3) for x in (light, drawing[..., 3])]
    alpha = np.clip(3 * np.maximum(*steps) - 0.4, 0, 1)[..., None]
    return np.concatenate([np.full((*light.shape, 3), BLACK) * alpha, alpha], -1).astype(np.float32)


COLOURLESS: tuple[Change, ...] = (in_grey, outlines, bare_outlines)  # by which a drawing keeps its shape alone


def put(image: np.ndarray, drawing: np.ndarray, left: int, top: int) -> None:
    """Put a drawing on an image; what reaches beyond it is cut off."""
    side = len(drawing)
    x, y = max(left, 0), max(top, 0)
    right, bottom = min(left + side, SIDE), min(top + side, SIDE)
    part = drawing[y - top : bottom - top, x - left : right - left]
    image[y:bottom, x:right] = image[y:bottom, x:right] * (1 - part[..., 3:]) + part[..., :3]


def tinted(drawing: np.ndarray, tint: str) -> np.ndarray:
    """The drawing in shades of one colour."""
    if tint == NATURAL:
        return drawing
    alpha = drawing[..., 3:]
    light = DARKEST + (1 - DARKEST) * ((drawing[..., :3] / np.maximum(alpha, 1e-3)) @ LUMINANCE)[..., None]
    colour = np.array(TINTS[tint], np.float32) / 255
    bright = colour + (1 - colour) * (light - MIDDLE) / (1 - MIDDLE)
    shades = np.where(light < MIDDLE, colour * light / MIDDLE, bright)
    return np.concatenate([shades * alpha, alpha], -1).astype(np.float32)


@functools.cache
def ground(name: str) -> np.ndarray:
    """An image [96, 96, 3] of the ground alone."""
    colours = [np.array(colour, np.float32) / 255 for colour in GROUNDS[name]]
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    marks = {
        "stripes": (x // 8) % 2 == 0,
        "dots": (x % 16 - 7.5) ** 2 + (y % 16 - 7.5) ** 2 < 10,
        "checks": (x // 16 + y // 16) % 2 == 0,
    }
    marked = marks.get(name, np.ones((SIDE, SIDE), bool))
    return np.where(marked[..., None], colours[0], colours[-1])
