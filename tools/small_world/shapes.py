"""Outlines of the shapes, as signed distances in pixels: negative inside.

They are scaled to look alike in size at the same radius, rather than to the same width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Distance = Callable[[Array, Array, float], Array]  # x and y from the shape's centre, and a radius, all in pixels


def circle(x: Array, y: Array, radius: float) -> Array:
    return np.hypot(x, y) - radius


def ring(x: Array, y: Array, radius: float) -> Array:
    return np.abs(np.hypot(x, y) - 0.81 * radius) - 0.29 * radius


def polygon(corners: Array) -> Distance:
    """The distance from a polygon with these corners [V, 2], given for a radius of one."""

    def distance(x: Array, y: Array, radius: float) -> Array:
        points = np.stack([x, y], -1)
        nearest = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, bool)
        for start, end in zip(corners * radius, np.roll(corners, -1, 0) * radius, strict=True):
            edge, from_start = end - start, points - start
            along = np.clip(from_start @ edge / (edge @ edge), 0, 1)
            nearest = np.minimum(nearest, np.linalg.norm(from_start - along[..., None] * edge, axis=-1))
            inside ^= crosses_to_the_right(points, start, end)
        return np.where(inside, -nearest, nearest)

    return distance


def crosses_to_the_right(points: Array, start: Array, end: Array) -> Array:
    """Whether a ray from each point to the right meets the edge."""
    x, y = points[..., 0], points[..., 1]
    straddles = (start[1] > y) != (end[1] > y)
    height = np.where(straddles, end[1] - start[1], 1.0)
    return straddles & (x < start[0] + (y - start[1]) * (end[0] - start[0]) / height)


def around(*radii: float, count: int) -> Array:
    """Corners on a circle, the first on top, with these radii in turn."""
    angles = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.resize(radii, count)[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)


def plus(length: float, width: float) -> Array:
    quarter = np.array([[width, -length], [width, -width], [length, -width]])
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn.T for turn in turns])


SHAPE_DISTANCES: Mapping[str, Distance] = {
    "circle": circle,
    "square": polygon(0.9 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])),
    "triangle": polygon(around(1.3, count=3)),
    "star": polygon(around(1.35, 0.58, count=10)),
    "cross": polygon(plus(1.1, 0.36)),
    "ring": ring,
}


def coverage(shape: str, x: Array, y: Array, radius: float) -> Array:
    """How much of each pixel a shape covers, 0..1: the distance, cut off within half a pixel of the outline."""
    return np.clip(0.5 - SHAPE_DISTANCES[shape](x, y, radius), 0, 1)
