"""What a picture of the small world shows: one thing, or two, on a background, in words.

Every attribute is drawn independently of the others, and each task of the world owns attributes of its own; so it can
be told from a picture which of its attributes come from where.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
PLACES = (*CORNERS, "middle")
SIZES = ("small", "big")
PATTERNS = ("plain", "horizontal stripes", "vertical stripes", "diagonal stripes", "checks", "dots")

HELD_OUT_EVERY = 16

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "place": PLACES,
    "size": SIZES,
    "pattern": PATTERNS,
}
TASKS: Mapping[str, tuple[str, ...]] = {  # what each task takes from the reference picture
    "colour": ("colour",),
    "composition": ("place", "size"),
    "object": ("shape",),
    "style": ("pattern",),
    "everything": tuple(ATTRIBUTES),
}


@dataclass(frozen=True)
class Thing:
    """One coloured object."""

    shape: str
    colour: str
    place: str
    size: str


@dataclass(frozen=True)
class Scene:
    """One thing, or two in different corners, on a patterned background."""

    things: tuple[Thing, ...]
    pattern: str

    def __post_init__(self) -> None:
        places = [thing.place for thing in self.things]
        if len(places) != len(set(places)) or (len(places) > 1 and not set(places) <= set(CORNERS)):
            raise ValueError(f"Things should stand in different corners, or one alone; these stand at {places}.")

    @property
    def attributes(self) -> dict[str, str]:
        """All attributes of a scene of one thing, in the order of ATTRIBUTES."""
        (thing,) = self.things
        return {**asdict(thing), "pattern": self.pattern}


def scene_of(attributes: Mapping[str, str]) -> Scene:
    """The scene of one thing with these attributes."""
    values = dict(attributes)
    pattern = values.pop("pattern")
    return Scene((Thing(**values),), pattern)


def random_scene(drawn: random.Random, pairs: float = 0.0) -> Scene:
    """A scene with each attribute drawn evenly; `pairs` is the share of scenes with a second thing."""
    scene = scene_of({name: drawn.choice(values) for name, values in ATTRIBUTES.items()})
    return with_a_second(scene, drawn) if drawn.random() < pairs else scene


def is_held_out(scene: Scene) -> bool:
    """Whether a scene has a thing and pattern together that no model of the world is trained on: one in sixteen."""
    described = (" ".join([*asdict(thing).values(), scene.pattern]) for thing in scene.things)
    return any(zlib.crc32(words.encode()) % HELD_OUT_EVERY == 0 for words in described)


def scene_to_learn(drawn: random.Random, pairs: float = 0.0) -> Scene:
    """A random scene that is not held out."""
    scene = random_scene(drawn, pairs)
    return scene_to_learn(drawn, pairs) if is_held_out(scene) else scene


def held_out_scene(drawn: random.Random) -> Scene:
    """A random held-out scene of one thing."""
    while not is_held_out(scene := random_scene(drawn)):
        pass
    return scene


def with_a_second(scene: Scene, drawn: random.Random) -> Scene:
    """The scene with another thing, small and unlike the first in shape and colour, both in corners."""
    (first,) = scene.things
    places = drawn.sample(CORNERS, 2)
    second = Thing(
        shape=drawn.choice([shape for shape in SHAPES if shape != first.shape]),
        colour=drawn.choice([colour for colour in COLOURS if colour != first.colour]),
        place=places[1],
        size="small",  # two big ones would touch
    )
    return replace(scene, things=(replace(first, place=places[0]), second))


def taken(task: str, reference: Scene, prompt: Scene) -> Scene:
    """What an instruction asks for: the prompt's scene with the task's attributes from the reference's."""
    from_reference = {name: reference.attributes[name] for name in TASKS[task]}
    return scene_of({**prompt.attributes, **from_reference})
