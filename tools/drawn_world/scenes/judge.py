"""The judge names the scene that an image shows: the nearest of all real ones.

It is exact on real images, and nothing is trained for it. All is compared at half of the size: first the ground is
named, then the nearest of all scenes on it.
"""

from __future__ import annotations

import functools

import numpy as np

from drawn_world.scenes.drawing import drawings, ground, tinted
from drawn_world.scenes.scene import CONCEPTS, GROUNDS, NATURAL, PAIRS, PLACES, STYLES, TINTS, Scene, square_of

HALF = 2
CLOSE = 0.08  # to a ground's colours, where nothing stands on it


@functools.cache
def every_drawing(side: int) -> np.ndarray:
    """Every drawing in every colour, premultiplied: [styles, tints, concepts, side / 2, side / 2, RGBA]."""
    every = [
        [[tinted(drawings().at(concept, style, side), tint) for concept in CONCEPTS] for tint in (NATURAL, *TINTS)]
        for style in STYLES
    ]
    return halved(np.asarray(every, np.float32))


def halved(images: np.ndarray) -> np.ndarray:
    """The means of 2 x 2 pixels of images [..., h, w, C]."""
    *before, height, width, channels = images.shape
    parts = images.reshape(*before, height // HALF, HALF, width // HALF, HALF, channels)
    return parts.mean((-4, -2), dtype=np.float32)


def nearest_ground(image: np.ndarray) -> str:
    """The ground of which most is to be seen."""
    differences = {name: np.abs(image - ground(name)).max(-1) for name in GROUNDS}
    return max(GROUNDS, key=lambda name: (np.clip(1 - differences[name] / (2 * CLOSE), 0, 1)).mean())


def nearest_scene(image: np.ndarray) -> Scene:
    """The scene that is nearest to an image [96, 96, 3] in 0..1."""
    on = nearest_ground(image)
    small, bare = halved(image.astype(np.float32)), halved(ground(on).astype(np.float32))
    empty = np.square(small - bare).sum(-1)
    gains = {place: errors(small, bare, place) - inside(empty, place).sum() for place in PLACES}
    scenes = [best(on, (place,), gains) for place in gains] + [best(on, pair, gains) for pair in PAIRS]
    return min(scenes, key=lambda found: found[0])[1]


def inside(image: np.ndarray, place: str) -> np.ndarray:
    left, top, side = (length // HALF for length in square_of(place))
    return image[top : top + side, left : left + side]


def errors(image: np.ndarray, bare: np.ndarray, place: str) -> np.ndarray:
    """Squared differences of an image, at a place, from each drawing in each colour: [styles, tints, concepts]."""
    every, on = every_drawing(square_of(place)[2]), inside(bare, place)
    made = every[..., :3] - every[..., 3:] * on
    return np.square(made - (inside(image, place) - on)).sum((-3, -2, -1))


def best(on: str, places: tuple[str, ...], gains: dict[str, np.ndarray]) -> tuple[float, Scene]:
    """The best scene at these places, and how much of the image it leaves unexplained."""
    total = sum(gains[place].min(-1) for place in places)
    style, tint = np.unravel_index(int(np.argmin(total)), total.shape)
    concepts = tuple([*CONCEPTS][int(gains[place][style, tint].argmin())] for place in places)
    scene = Scene(concepts, [*STYLES][style], (NATURAL, *TINTS)[tint], places, on)
    return float(total[style, tint]), scene
