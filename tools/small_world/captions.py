"""Scenes in words: every attribute may be left out, and words and their order vary."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from small_world.scenes import ATTRIBUTES, COLOURS, Scene, Thing

# What each value may be called. The first is the plain word; no two values share one.
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "shape": {
        "circle": ("circle", "disc"),
        "square": ("square",),
        "triangle": ("triangle",),
        "star": ("star",),
        "cross": ("cross", "plus"),
        "ring": ("ring", "hoop"),
    },
    "colour": {colour: (colour,) for colour in COLOURS},
    "place": {
        "top left": ("at the top left", "in the top left corner", "in the upper left"),
        "top right": ("at the top right", "in the top right corner", "in the upper right"),
        "bottom left": ("at the bottom left", "in the bottom left corner", "in the lower left"),
        "bottom right": ("at the bottom right", "in the bottom right corner", "in the lower right"),
        "middle": ("in the middle", "in the centre"),
    },
    "size": {"small": ("small", "little"), "big": ("big", "large")},
    "pattern": {
        "plain": ("plain", "even"),
        "horizontal stripes": ("horizontal stripes",),
        "vertical stripes": ("vertical stripes",),
        "diagonal stripes": ("diagonal stripes", "slanted stripes"),
        "checks": ("checks", "a checkerboard"),
        "dots": ("dots", "spots"),
    },
}
NAMELESS = ("thing", "shape", "figure")
GROUNDS = ("on {}", "over {}", "in front of {}")
SENTENCES = ("{things} {ground}", "{things}, {ground}", "{ground}, {things}", "{ground} {things}")
SHARE_OF_FULL = 0.5
SHARE_KEPT = 0.7  # of the attributes, in a caption that is not full


def full_caption(scene: Scene) -> str:
    """The plainest caption that says everything."""
    return plain_caption(scene, ATTRIBUTES)


def plain_caption(scene: Scene, told: Collection[str]) -> str:
    """The plainest caption that tells the attributes in `told` and no others."""
    things = " and ".join(thing_words(thing, told, random.Random(0), plainest) for thing in scene.things)
    if "pattern" not in told:
        return things
    return f"{things} on {ground_words(plainest(WORDS['pattern'][scene.pattern], None))}"


def random_caption(scene: Scene, drawn: random.Random) -> str:
    """A caption with all attributes, or with some of them."""
    return caption(scene, random_told(drawn), drawn)


def random_told(drawn: random.Random) -> list[str]:
    """Which attributes a caption tells."""
    share = 1.0 if drawn.random() < SHARE_OF_FULL else SHARE_KEPT
    return [name for name in ATTRIBUTES if drawn.random() < share]


def caption(scene: Scene, told: Collection[str], drawn: random.Random) -> str:
    """A caption that tells the attributes in `told` and no others."""
    described = [thing_words(thing, told, drawn, any_word) for thing in scene.things]
    things = " and ".join(drawn.sample(described, len(described)))
    if "pattern" not in told:
        return things
    ground = drawn.choice(GROUNDS).format(ground_words(any_word(WORDS["pattern"][scene.pattern], drawn)))
    return drawn.choice(SENTENCES).format(things=things, ground=ground)


def thing_words(thing: Thing, told: Collection[str], drawn: random.Random, choose) -> str:
    """A thing with an article, such as "a big red star at the top left"."""
    values = {name: choose(WORDS[name][getattr(thing, name)], drawn) for name in told if name != "pattern"}
    noun = values.get("shape") or drawn.choice(NAMELESS)
    words = [values[name] for name in ("size", "colour") if name in values] + [noun]
    article = "an" if words[0][0] in "aeiou" else "a"
    place = [values["place"]] if "place" in values else []
    return " ".join([article, *words, *place])


def ground_words(pattern: str) -> str:
    return (
        f"an {pattern} background"
        if pattern == "even"
        else (f"a {pattern} background" if pattern == "plain" else f"a background with {pattern}")
    )


def any_word(words: tuple[str, ...], drawn: random.Random) -> str:
    return drawn.choice(words)


def plainest(words: tuple[str, ...], drawn: random.Random | None) -> str:
    return words[0]
