"""Scenes as pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from drawn_world.pictures.concepts import CONCEPTS, STYLES
from drawn_world.pictures.rendering import ALL, resized
from drawn_world.pictures.scenes import BIG, BIG_PLACES, CORNERS, GROUNDS, NATURAL, SIDE, SMALL, TINTS, Scene, set_of
from drawn_world.storage import STORED, world_folder

Change = Callable[[np.ndarray], np.ndarray]  # of a drawing, premultiplied RGBA
BLACK = 0.13  # as dark as pictograms are
MARGIN = 0.92  # of the side that a drawing fills
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)
DARKEST, MIDDLE = 0.35, 0.55  # of a tinted drawing's luminance; where it has the colour itself


class Drawings:
    """Drawings at both sizes, premultiplied RGBA in 0..1: all sets' if they were rendered, else the five styles'."""

    def __init__(self, path: Path | None = None) -> None:
        every = world_folder() / ALL
        with np.load(path or (every if every.is_file() else STORED / ALL)) as file:
            self.pixels = {name: file[name] for name in file.files}
        self.made: dict[tuple[str, str, int], np.ndarray] = {}

    def has(self, concept: str, style: str) -> bool:
        return f"{set_of(style)}/{concept}" in self.pixels

    def at(self, concept: str, style: str, side: int) -> np.ndarray:
        """[side, side, 4] with a small margin."""
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
    """All drawings of what is no concept of the world: names, and styles or other sets."""
    named = {own: style for style, own in STYLES.items()}
    found = (key.split("/") for key in sorted(drawings().pixels))
    return tuple((word, named.get(own, own)) for own, word in found if word not in CONCEPTS)


def draw(scene: Scene, shift: tuple[int, int] = (0, 0), change: Change | None = None) -> np.ndarray:
    """The picture [96, 96, 3] of a scene, 0..1; its drawings moved and changed where asked."""
    picture = ground(scene.ground).copy()
    for concept, place in zip(scene.concepts, scene.places, strict=True):
        side, (left, top) = (BIG, BIG_PLACES[place]) if place in BIG_PLACES else (SMALL, CORNERS[place])
        thing = tinted(drawings().at(concept, scene.style, side), scene.tint)
        put(picture, change(thing) if change else thing, left + shift[0], top + shift[1])
    return picture


def in_grey(thing: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat((thing[..., :3] @ LUMINANCE)[..., None], 3, -1), thing[..., 3:]], -1)


def outlines(thing: np.ndarray) -> np.ndarray:
    """Where light or alpha changes, in black, on white."""
    lines, white = bare_outlines(thing), np.repeat(thing[..., 3:], 4, -1)
    return white * (1 - lines[..., 3:]) + lines


def bare_outlines(thing: np.ndarray) -> np.ndarray:
    light = thing[..., :3] @ LUMINANCE + 1 - thing[..., 3]
    steps = [ndimage.maximum_filter(x, 3) - ndimage.minimum_filter(x, 3) for x in (light, thing[..., 3])]
    return in_black(np.clip(3 * np.maximum(*steps) - 0.4, 0, 1))


def in_black(alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((*alpha.shape, 3), BLACK) * alpha[..., None], alpha[..., None]], -1).astype(
        np.float32
    )


COLOURLESS: tuple[Change, ...] = (in_grey, outlines, bare_outlines)  # by which a drawing keeps its shape alone


def put(picture: np.ndarray, thing: np.ndarray, left: int, top: int) -> None:
    """Put a drawing on a picture; what reaches beyond it is cut off."""
    side = len(thing)
    x, y = max(left, 0), max(top, 0)
    right, bottom = min(left + side, SIDE), min(top + side, SIDE)
    seen = thing[y - top : bottom - top, x - left : right - left]
    under = picture[y:bottom, x:right]
    under[:] = under * (1 - seen[..., 3:]) + seen[..., :3]


def tinted(thing: np.ndarray, tint: str) -> np.ndarray:
    """The drawing in shades of one colour."""
    if tint == NATURAL:
        return thing
    alpha = thing[..., 3:]
    light = DARKEST + (1 - DARKEST) * ((thing[..., :3] / np.maximum(alpha, 1e-3)) @ LUMINANCE)[..., None]
    colour = np.array(TINTS[tint], np.float32) / 255
    bright = colour + (1 - colour) * (light - MIDDLE) / (1 - MIDDLE)
    shades = np.where(light < MIDDLE, colour * light / MIDDLE, bright)
    return np.concatenate([shades * alpha, alpha], -1).astype(np.float32)


@functools.cache
def ground(name: str) -> np.ndarray:
    """[96, 96, 3]"""
    colours = [np.array(colour, np.float32) / 255 for colour in GROUNDS[name]]
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    marks = {
        "stripes": (x // 8) % 2 == 0,
        "dots": (x % 16 - 7.5) ** 2 + (y % 16 - 7.5) ** 2 < 10,
        "checks": (x // 16 + y // 16) % 2 == 0,
    }
    marked = marks.get(name, np.ones((SIDE, SIDE), bool))
    return np.where(marked[..., None], colours[0], colours[-1])
