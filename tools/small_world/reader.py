"""Reads a picture's scene back from its pixels, without knowing how it was made.

Things are what has a colour; a thing's shape and size are those of the drawn outline that covers the same pixels best,
and the pattern is the drawn one that goes with the greys around it best. No net is trained, so nothing can be learnt by
heart; what fits nothing well is None.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from small_world.drawing import CENTRES, HUES, PIXEL_X, PIXEL_Y, RADII, SIDE
from small_world.patterns import PATTERN_COVERAGES, PATTERN_PERIODS
from small_world.scenes import ATTRIBUTES, SHAPES
from small_world.shapes import coverage

Array = np.ndarray
GREY = 0.12  # a pixel whose strongest and weakest channel differ by less has no colour
COLOURED = 0.5  # of the thing's own strength of colour: the outline
SMALLEST = 30  # pixels that a thing covers at least
SOLID = 0.6  # of a pixel's strength of colour, for the pixels that tell a thing's hue
FAR = 10.0  # pixels from the nearest place, beyond which a thing stands at none
LIKE = 0.85  # how much a shape must be like the best outline, 0..1
FAINT = 0.035  # a pattern's spread of greys, below which the background is plain
MATCHING = 0.6  # correlation with the best pattern
WINDOW = 48  # pixels; a thing is moved into the middle of so many
PHASES = 8  # of a pattern, that are tried along each side


@dataclass(frozen=True)
class SeenThing:
    """A thing's attributes as they are seen; None for what is like nothing known."""

    shape: str | None
    colour: str | None
    place: str | None
    size: str | None
    pixels: float


@dataclass(frozen=True)
class Seen:
    """What a picture shows: its things, the largest first, and its pattern."""

    things: tuple[SeenThing, ...]
    pattern: str | None

    @property
    def attributes(self) -> dict[str, str | None]:
        """All attributes by name, of the largest thing; all but the pattern are None where there is no thing."""
        thing = self.things[0] if self.things else None
        found = {name: getattr(thing, name, None) for name in ATTRIBUTES}
        return {**found, "pattern": self.pattern}


def read(picture: Array) -> Seen:
    """What a picture [64, 64, 3] in 0..1 shows."""
    strength = picture.max(-1) - picture.min(-1)
    labels, count = ndimage.label(ndimage.gaussian_filter(strength, 0.6) > 2 * GREY)
    sizes = ndimage.sum_labels(np.ones_like(labels), labels, range(1, count + 1))
    largest_first = sorted((n for n in range(count) if sizes[n] >= SMALLEST), key=lambda n: -sizes[n])
    things = tuple(read_thing(picture, strength, labels, n + 1) for n in largest_first)
    return Seen(things, read_pattern(picture.mean(-1), ndimage.binary_dilation(labels > 0, iterations=3)))


def read_all(pictures: Sequence[Array]) -> list[Seen]:
    return [read(picture) for picture in pictures]


def read_thing(picture: Array, strength: Array, labels: Array, number: int) -> SeenThing:
    """The thing of one connected coloured area."""
    near = ndimage.binary_dilation(labels == number, iterations=2) & ((labels == number) | (labels == 0))
    own = np.where(near, strength, 0)
    strongest = np.percentile(own[labels == number], 80)
    covered = np.clip((own - GREY) / (strongest - GREY), 0, 1)
    x, y = ((covered * along).sum() / covered.sum() for along in (PIXEL_X, PIXEL_Y))
    shape, size = read_outline(centred(covered, x, y))
    colour = read_colour(picture[covered > SOLID])
    return SeenThing(shape, colour, read_place(x, y), size, float(covered.sum()))


def read_place(x: float, y: float) -> str | None:
    far = {place: np.hypot(x - centre[0], y - centre[1]) for place, centre in CENTRES.items()}
    nearest = min(far, key=far.get)
    return nearest if far[nearest] < FAR else None


def read_colour(pixels: Array) -> str | None:
    """The colour whose hue is nearest to the mean colour of pixels [N, 3]."""
    if not len(pixels):
        return None
    hue = 360 * colorsys.rgb_to_hsv(*np.median(pixels, 0))[0]
    return min(HUES, key=lambda colour: abs((hue - HUES[colour][0] + 180) % 360 - 180))


def centred(covered: Array, x: float, y: float) -> Array:
    """A window [48, 48] of a picture [64, 64] with the point x, y in its middle."""
    padded = np.pad(covered, WINDOW // 2)
    moved = ndimage.shift(padded, (SIDE / 2 - y, SIDE / 2 - x), order=1)
    start = WINDOW // 2 + (SIDE - WINDOW) // 2
    return moved[start : start + WINDOW, start : start + WINDOW]


def read_outline(covered: Array) -> tuple[str | None, str | None]:
    """The shape and size of the outline that is most like a covered window."""
    known, outlines = all_outlines()
    likeness = outlines @ (covered.ravel() / max(np.linalg.norm(covered), 1e-6))
    shape, radius = known[int(likeness.argmax())]
    size = min(RADII, key=lambda size: abs(RADII[size] - radius))
    return (shape if likeness.max() > LIKE else None), size


@functools.cache
def all_outlines() -> tuple[list[tuple[str, float]], Array]:
    """Every shape at every radius, and the pixels it covers in a window, as unit vectors [K, 48 * 48]."""
    y, x = np.mgrid[0:WINDOW, 0:WINDOW] + 0.5 - WINDOW / 2
    known = [(shape, radius) for shape in SHAPES for radius in np.arange(5.0, 16.0, 0.5)]
    drawn = np.stack([ndimage.gaussian_filter(coverage(shape, x, y, radius), 0.4).ravel() for shape, radius in known])
    return known, drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def read_pattern(greys: Array, hidden: Array) -> str | None:
    """The pattern of greys [64, 64] around what is hidden."""
    shown = np.where(hidden.ravel(), 0.0, 1.0)
    names, patterns = all_patterns()
    greys = (greys.ravel() - np.average(greys.ravel(), weights=shown)) * shown
    means = patterns @ shown / shown.sum()
    spreads = np.sqrt(np.maximum(patterns**2 @ shown / shown.sum() - means**2, 1e-6))
    covariances = patterns @ greys / shown.sum()
    best = int(np.argmax(np.abs(covariances) / spreads))
    explained = abs(covariances[best]) / spreads[best]  # the spread of greys that this pattern accounts for
    spread = np.sqrt((greys**2).sum() / shown.sum())
    if explained < FAINT:
        return "plain" if spread < 2 * FAINT else None
    return names[best] if explained > MATCHING * spread else None


@functools.cache
def all_patterns() -> tuple[list[str], Array]:
    """Every pattern but the plain one at every phase, as [K, 64 * 64]."""
    drawn = [
        (name, PATTERN_COVERAGES[name](PIXEL_X + x, PIXEL_Y + y).ravel())
        for name, periods in PATTERN_PERIODS.items()
        for x in phases(periods[0])
        for y in phases(periods[1])
    ]
    return [name for name, _ in drawn], np.stack([pixels for _, pixels in drawn])


def phases(period: float) -> Array:
    """Shifts in pixels over a period; one for a pattern that is even in this direction."""
    return np.arange(PHASES) * period / PHASES if period else np.zeros(1)
