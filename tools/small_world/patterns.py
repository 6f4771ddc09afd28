"""Backgrounds: how much of each pixel is of the darker of two neutral tones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
STRIPE_PERIOD = 12.0
CHECK_PERIOD = 20.0
DOT_PERIOD = 11.0
DOT_RADIUS = 2.9


def square_wave(along: Array, period: float) -> Array:
    """Bands of half a period, 0 or 1, with edges a pixel wide."""
    to_centre = np.abs(along / period % 1 - 0.5)
    return np.clip(0.5 + (to_centre - 0.25) * period, 0, 1)


def plain(x: Array, y: Array) -> Array:
    return np.zeros_like(x)


def horizontal(x: Array, y: Array) -> Array:
    return square_wave(y, STRIPE_PERIOD)


def vertical(x: Array, y: Array) -> Array:
    return square_wave(x, STRIPE_PERIOD)


def diagonal(x: Array, y: Array) -> Array:
    return square_wave((x + y) * np.sqrt(0.5), STRIPE_PERIOD)


def checks(x: Array, y: Array) -> Array:
    columns, rows = square_wave(x, CHECK_PERIOD), square_wave(y, CHECK_PERIOD)
    return columns + rows - 2 * columns * rows


def dots(x: Array, y: Array) -> Array:
    offsets = [(along / DOT_PERIOD % 1 - 0.5) * DOT_PERIOD for along in (x, y)]
    return np.clip(0.5 + DOT_RADIUS - np.hypot(*offsets), 0, 1)


PATTERN_COVERAGES: Mapping[str, Callable[[Array, Array], Array]] = {
    "plain": plain,
    "horizontal stripes": horizontal,
    "vertical stripes": vertical,
    "diagonal stripes": diagonal,
    "checks": checks,
    "dots": dots,
}
PATTERN_PERIODS: Mapping[str, tuple[float, float]] = {  # along x and y, after which a pattern repeats; 0: it is even
    "horizontal stripes": (0, STRIPE_PERIOD),
    "vertical stripes": (STRIPE_PERIOD, 0),
    "diagonal stripes": (STRIPE_PERIOD * np.sqrt(2), 0),
    "checks": (CHECK_PERIOD, CHECK_PERIOD),
    "dots": (DOT_PERIOD, DOT_PERIOD),
}
