"""A scene: one drawing or two, in one style, natural or in one colour, in places, on a ground.

A big drawing covers 64 of 96 pixels and stands in the middle or at one side; a small one covers 48 and stands in a
corner. All places are whole tokens of the base model (16 pixels).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

DATA: Mapping[str, Any] = json.loads(Path(__file__).with_name("sets.json").read_text(encoding="utf-8"))
SETS = tuple(DATA["sets"])  # of drawings
STYLES: Mapping[str, str] = DATA["styles"]  # the styles that the world draws in, and their sets
OTHER_SETS = tuple(name for name in SETS if name not in STYLES.values())  # these are only looked at
CONCEPTS: Mapping[str, str] = DATA["concepts"]  # plain words, and the names in the sets; all five styles have each
SIDE, BIG, SMALL = 96, 64, 48
BIG_PLACES: Mapping[str, tuple[int, int]] = {  # left, top
    "middle": (16, 16),
    "left": (0, 16),
    "right": (32, 16),
    "top": (16, 0),
    "bottom": (16, 32),
}
CORNERS: Mapping[str, tuple[int, int]] = {
    "top left": (0, 0),
    "top right": (48, 0),
    "bottom left": (0, 48),
    "bottom right": (48, 48),
}
PLACES = (*BIG_PLACES, *CORNERS)
PAIRS = tuple(combinations(CORNERS, 2))
NATURAL = "natural"
TINTS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (240, 130, 20),
    "green": (30, 160, 60),
    "blue": (40, 90, 225),
    "purple": (150, 50, 190),
}
GROUNDS: Mapping[str, tuple[tuple[int, int, int], ...]] = {  # one colour, or the two of a pattern
    "white": ((250, 250, 250),),
    "grey": ((176, 180, 188),),
    "sky": ((150, 205, 245),),
    "pink": ((248, 180, 205),),
    "yellow": ((250, 228, 130),),
    "mint": ((165, 228, 185),),
    "stripes": ((255, 222, 186), (255, 250, 240)),
    "dots": ((120, 150, 235), (238, 240, 252)),
    "checks": ((214, 190, 235), (247, 242, 252)),
}
ATTRIBUTES = ("concepts", "style", "tint", "places", "ground")
TASKS: Mapping[str, tuple[str, ...]] = {  # the attributes that each takes from the reference
    "style": ("style",),
    "object": ("concepts",),
    "colour": ("tint",),
    "composition": ("places",),
    "background": ("ground",),
    "everything": ATTRIBUTES,
}
COUNTED = ("object", "composition", "everything")  # tasks that need as many drawings as the reference has
SHARE_SMALL, SHARE_PAIRS, SHARE_TINTED = 0.25, 0.2, 0.3
OFTEN_TINTED = 0.55  # share in training images: the styles of drawings in one colour are the hardest to tell


@dataclass(frozen=True)
class Scene:
    """A scene's attributes.

    concepts and places have one or two entries, the places in reading order; style is a style's or a set's name.
    """

    concepts: tuple[str, ...]
    style: str
    tint: str
    places: tuple[str, ...]
    ground: str


def held_out_pairs() -> frozenset[tuple[str, str]]:
    """One style of each concept, in which it is never a reference in training."""
    drawn = random.Random("held-out pairs")
    styles = [style for style in STYLES for _ in range(len(CONCEPTS) // len(STYLES))]
    drawn.shuffle(styles)
    return frozenset(zip(CONCEPTS, styles, strict=True))


HELD_OUT = held_out_pairs()
DRAWINGS = tuple((concept, style) for concept in CONCEPTS for style in STYLES)
REFERENCES = tuple(pair for pair in DRAWINGS if pair not in HELD_OUT)


def square_of(place: str) -> tuple[int, int, int]:
    """Left, top and side of a place, in pixels."""
    return (*BIG_PLACES[place], BIG) if place in BIG_PLACES else (*CORNERS[place], SMALL)


def set_of(style: str) -> str:
    """The set of a style, or the set itself."""
    return STYLES.get(style, style if style in SETS else "")


def style_of(name: str) -> str:
    """The style of a set, or the set itself where the world does not draw in it."""
    return next((style for style, own in STYLES.items() if own == name), name)


def random_scene(
    drawn: random.Random,
    drawings: Sequence[tuple[str, str]] = DRAWINGS,
    pairs: float = SHARE_PAIRS,
    tinted: float = SHARE_TINTED,
) -> Scene:
    """A scene of these drawings; two of them with the probability `pairs`, in one colour with that of `tinted`."""
    concept, style = drawn.choice(drawings)
    concepts, places = (concept,), random_places(drawn, pairs)
    if len(places) == 2:
        other = drawn.choice([c for c, s in drawings if s == style and c != concept] or [concept])
        concepts = (concept, other)
    tint = drawn.choice(list(TINTS)) if drawn.random() < tinted else NATURAL
    return Scene(concepts, style, tint, places, drawn.choice(list(GROUNDS)))


def random_places(drawn: random.Random, pairs: float) -> tuple[str, ...]:
    lot = drawn.random()
    if lot < pairs:
        return drawn.choice(PAIRS)
    return (drawn.choice(list(CORNERS if lot < pairs + SHARE_SMALL else BIG_PLACES)),)


def taken(task: str, reference: Scene, scene: Scene) -> Scene:
    """The scene with what the task asks for taken from the reference.

    Both have as many drawings when the task takes the concepts or the places.
    """
    return replace(scene, **{name: getattr(reference, name) for name in TASKS[task]})


def random_prompt_scene(task: str, reference: Scene, drawn: random.Random) -> Scene:
    """A scene for a prompt: of as many drawings as the reference where the task needs that."""
    return random_scene(drawn, pairs=float(len(reference.places) == 2) if task in COUNTED else 0.1)
