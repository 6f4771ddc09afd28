"""Scenes drawn as pictures, with a little chance in everything that a word leaves open."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Mapping

import numpy as np

from small_world.patterns import PATTERN_COVERAGES
from small_world.scenes import Scene, Thing
from small_world.shapes import coverage

SIDE = 64  # pixels
CENTRES: Mapping[str, tuple[float, float]] = {  # x and y in pixels
    "top left": (18, 18),
    "top right": (46, 18),
    "bottom left": (18, 46),
    "bottom right": (46, 46),
    "middle": (32, 32),
}
RADII: Mapping[str, float] = {"small": 8.0, "big": 12.5}
HUES: Mapping[str, tuple[float, float, float]] = {  # hue in degrees, saturation, value
    "red": (0, 0.85, 0.85),
    "orange": (28, 0.9, 0.97),
    "yellow": (54, 0.88, 0.95),
    "green": (125, 0.75, 0.62),
    "cyan": (182, 0.85, 0.82),
    "blue": (225, 0.8, 0.85),
    "purple": (285, 0.65, 0.68),
}
LIGHT, DARK = 0.86, 0.62
WARMTH = np.array([1.0, 0.99, 0.975])
# How far a picture may stray from the above, either way.
STRAY_PLACE, STRAY_RADIUS, STRAY_HUE, STRAY_VALUE, STRAY_TONE, STRAY_PHASE = 1.5, 0.05, 4.0, 0.03, 0.03, 1.5

PIXEL_Y, PIXEL_X = np.mgrid[0:SIDE, 0:SIDE] + 0.5  # the pixels' centres


def draw(scene: Scene, drawn: random.Random) -> np.ndarray:
    """The scene as a picture [64, 64, 3], float32 in 0..1; what its words leave open is taken from `drawn`."""
    picture = background(scene.pattern, drawn)
    for thing in scene.things:
        picture = put(thing, picture, drawn)
    return picture.astype(np.float32)


def background(pattern: str, drawn: random.Random) -> np.ndarray:
    shift_x, shift_y = (drawn.uniform(-STRAY_PHASE, STRAY_PHASE) for _ in range(2))
    light, dark = (tone + drawn.uniform(-STRAY_TONE, STRAY_TONE) for tone in (LIGHT, DARK))
    share = PATTERN_COVERAGES[pattern](PIXEL_X + shift_x, PIXEL_Y + shift_y)
    return (light + (dark - light) * share)[..., None] * WARMTH


def put(thing: Thing, picture: np.ndarray, drawn: random.Random) -> np.ndarray:
    """The picture with a thing in front."""
    x, y = (along + drawn.uniform(-STRAY_PLACE, STRAY_PLACE) for along in CENTRES[thing.place])
    radius = RADII[thing.size] * (1 + drawn.uniform(-STRAY_RADIUS, STRAY_RADIUS))
    share = coverage(thing.shape, PIXEL_X - x, PIXEL_Y - y, radius)[..., None]
    return picture + (paint(thing.colour, drawn) - picture) * share


def paint(colour: str, drawn: random.Random) -> np.ndarray:
    """RGB [3] of a colour."""
    hue, saturation, value = HUES[colour]
    hue += drawn.uniform(-STRAY_HUE, STRAY_HUE)
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value + drawn.uniform(-STRAY_VALUE, STRAY_VALUE)))
