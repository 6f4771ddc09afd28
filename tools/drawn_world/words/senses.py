"""What words mean: a sense is an attribute's value or a task, and each has words of its own, in `words.json`.

The first word is the plain one. The text encoder is trained on all, so that to the base model they are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drawn_world.pictures.concepts import CONCEPTS, STYLES
from drawn_world.pictures.scenes import BIG_PLACES, CORNERS, GROUNDS, TASKS, TINTS

Sense = tuple[str, str]  # (attribute, value) or ("task", task)

DATA = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
OTHER_WORDS: Mapping[str, list[str]] = DATA["other_words"]
TASK_WORDS: Mapping[str, list[str]] = DATA["task_words"]
PLAIN_PLACES = {
    "middle": "in the middle",
    "left": "on the left",
    "right": "on the right",
    # No wording begins like another and goes on: a word's state is made of what stands before it.
    **{
        f"{a} {side}": f"at the {b} {side}"
        for a, b in (("top", "upper"), ("bottom", "lower"))
        for side in ("left", "right")
    },
}
ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "concept": tuple(CONCEPTS),
    "style": tuple(STYLES),
    "tint": tuple(TINTS),
    "size": ("big", "small"),
    "place": (*BIG_PLACES, *CORNERS),
    "ground": tuple(GROUNDS),
    "task": tuple(TASKS),
}
SENSES: tuple[Sense, ...] = tuple((name, value) for name, values in ATTRIBUTES.items() for value in values)


@dataclass(frozen=True)
class Said:
    """A phrase of a text, what it means if anything, and whether that is of the second drawing."""

    words: str
    sense: Sense | None = None
    second: bool = False


def words_for(sense: Sense) -> tuple[str, ...]:
    """All that a sense may be called, the plain word first."""
    name, value = sense
    if name == "task":
        return tuple(TASK_WORDS[value])
    plain = PLAIN_PLACES.get(value, f"at the {value}") if name == "place" else value
    return (plain, *OTHER_WORDS.get(value, ()))


def text_of(said: Sequence[Said]) -> str:
    return " ".join(part.words for part in said).replace(" ,", ",")
