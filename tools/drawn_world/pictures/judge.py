"""What a picture shows, by the nearest of all real drawings: exact on real pictures, and nothing is trained for it.

All is compared at half of the size. Of a picture, first the ground is told, then the nearest of all scenes on it.
"""

from __future__ import annotations

import functools

import numpy as np

from drawn_world.pictures.concepts import CONCEPTS, STYLES
from drawn_world.pictures.drawing import drawings, ground, tinted
from drawn_world.pictures.scenes import BIG, BIG_PLACES, CORNERS, GROUNDS, NATURAL, PAIRS, SMALL, TINTS, Scene

HALF = 2
CLOSE = 0.08  # of a ground's colours, where there is nothing else


@functools.cache
def things(side: int) -> np.ndarray:
    """Every drawing in every colour, premultiplied: [styles, tints, concepts, side / 2, side / 2, RGBA]."""
    every = [
        [[tinted(drawings().at(concept, style, side), tint) for concept in CONCEPTS] for tint in (NATURAL, *TINTS)]
        for style in STYLES
    ]
    return halved(np.asarray(every, np.float32))


def halved(pictures: np.ndarray) -> np.ndarray:
    """The means of 2 x 2 pixels of pictures [..., h, w, C]."""
    *before, height, width, channels = pictures.shape
    parts = pictures.reshape(*before, height // HALF, HALF, width // HALF, HALF, channels)
    return parts.mean((-4, -2), dtype=np.float32)


def ground_of(picture: np.ndarray) -> str:
    """The ground of which most is to be seen."""
    differences = {name: np.abs(picture - ground(name)).max(-1) for name in GROUNDS}
    return max(GROUNDS, key=lambda name: (np.clip(1 - differences[name] / (2 * CLOSE), 0, 1)).mean())


def seen(picture: np.ndarray) -> Scene:
    """The scene that is nearest to a picture [96, 96, 3] in 0..1."""
    on = ground_of(picture)
    small, bare = halved(picture.astype(np.float32)), halved(ground(on).astype(np.float32))
    empty = np.square(small - bare).sum(-1)
    gains = {place: errors(small, bare, place) - inside(empty, place).sum() for place in (*BIG_PLACES, *CORNERS)}
    scenes = [best(on, (place,), gains) for place in gains] + [best(on, pair, gains) for pair in PAIRS]
    return min(scenes, key=lambda found: found[0])[1]


def inside(pictures: np.ndarray, place: str) -> np.ndarray:
    side, (left, top) = (BIG, BIG_PLACES[place]) if place in BIG_PLACES else (SMALL, CORNERS[place])
    x, y, side = left // HALF, top // HALF, side // HALF
    return pictures[y : y + side, x : x + side]


def errors(picture: np.ndarray, bare: np.ndarray, place: str) -> np.ndarray:
    """How far a picture is, at a place, from each drawing in each colour: [styles, tints, concepts]."""
    every = things(BIG if place in BIG_PLACES else SMALL)
    left = inside(picture, place) - inside(bare, place)
    made = every[..., :3] - every[..., 3:] * inside(bare, place)
    return np.square(made - left).sum((-3, -2, -1))


def best(on: str, places: tuple[str, ...], gains: dict[str, np.ndarray]) -> tuple[float, Scene]:
    """How much a scene at these places explains, the less the better; with the best style, colour and concepts."""
    total = sum(gains[place].min(-1) for place in places)
    style, tint = np.unravel_index(int(np.argmin(total)), total.shape)
    concepts = tuple([*CONCEPTS][int(gains[place][style, tint].argmin())] for place in places)
    scene = Scene(concepts, [*STYLES][style], (NATURAL, *TINTS)[tint], places, on)
    return float(total[style, tint]), scene
