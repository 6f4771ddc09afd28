"""Scenes and tasks in words.

A sense is an attribute's value or a task, and has words of its own, in `words.json`; the first one is the plain one.
The text encoder is trained on all, so that to the base model they are the same. In captions every attribute may be
left out, and words and their order vary. Of the instructions' wordings some are held out of all training.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drawn_world.scenes.scene import BIG_PLACES, CONCEPTS, GROUNDS, NATURAL, PLACES, STYLES, TASKS, TINTS, Scene

Sense = tuple[str, str]  # (attribute, value) or ("task", task)

DATA: Mapping[str, Any] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
OTHER_WORDS: Mapping[str, list[str]] = DATA["other_words"]
TASK_WORDS: Mapping[str, list[str]] = DATA["task_words"]
# No wording begins like another and goes on, since a word's hidden state is made of what stands before it.
PLAIN_PLACES = {
    "middle": "in the middle",
    "left": "on the left",
    "right": "on the right",
    "top left": "at the upper left",
    "top right": "at the upper right",
    "bottom left": "at the lower left",
    "bottom right": "at the lower right",
}
SENSES_OF: Mapping[str, Sequence[str]] = {
    "concept": tuple(CONCEPTS),
    "style": tuple(STYLES),
    "tint": tuple(TINTS),
    "size": ("big", "small"),
    "place": PLACES,
    "ground": tuple(GROUNDS),
    "task": tuple(TASKS),
}
SENSES: tuple[Sense, ...] = tuple((name, value) for name, values in SENSES_OF.items() for value in values)

CAPTIONED = ("concepts", "style", "tint", "size", "places", "ground")  # the attributes that a caption may tell
SHARE_EMPTY, SHARE_FULL, SHARE_KEPT = 0.08, 0.55, 0.75
SHARE_TINT_TOLD, SHARE_SIZE_TOLD = 0.95, 0.3
MOST_WORDS = 15
NAMELESS = ("thing", "something", "drawing", "one")

FRAMES: tuple[str, ...] = tuple(DATA["frames"])  # of instructions, the plain one first
HELD_OUT_FRAMES: tuple[str, ...] = tuple(DATA["held_out_frames"])
HELD_OUT_WORDS: Mapping[str, str] = DATA["held_out_words"]  # the text encoder knows them, no adapter does
PLAIN: Mapping[str, str] = {task: f"use the {TASK_WORDS[task][0]}".replace("the every", "every") for task in TASKS}


@dataclass(frozen=True)
class Phrase:
    """A phrase of a text, its sense if it has any, and whether that is of the second drawing."""

    words: str
    sense: Sense | None = None
    second: bool = False


def words_for(sense: Sense) -> tuple[str, ...]:
    """All words of a sense, the plain one first."""
    name, value = sense
    if name == "task":
        return tuple(TASK_WORDS[value])
    plain = PLAIN_PLACES.get(value, f"at the {value}") if name == "place" else value
    return (plain, *OTHER_WORDS.get(value, ()))


def text_of(phrases: Sequence[Phrase]) -> str:
    return " ".join(phrase.words for phrase in phrases).replace(" ,", ",")


def senses_of(scene: Scene, attributes: Collection[str]) -> list[tuple[Sense, bool]]:
    """The senses of a caption that tells these attributes, each with whether it is of the second drawing."""
    senses = [(("style", scene.style), False)] if "style" in attributes else []
    if "tint" in attributes and scene.tint != NATURAL:
        senses.append((("tint", scene.tint), False))
    if "size" in attributes:
        senses.append((("size", size_of(scene)), False))
    for number, (concept, place) in enumerate(zip(scene.concepts, scene.places, strict=True)):
        senses += [(("concept", concept), number == 1)] if "concepts" in attributes else []
        senses += [(("place", place), number == 1)] if "places" in attributes else []
    return senses + ([(("ground", scene.ground), False)] if "ground" in attributes else [])


def size_of(scene: Scene) -> str:
    return "big" if scene.places[0] in BIG_PLACES else "small"


def random_attributes(drawn: random.Random) -> list[str]:
    """Attributes for a caption to tell."""
    lot = drawn.random()
    if lot < SHARE_EMPTY:
        return []
    kept = 1.0 if lot < SHARE_EMPTY + SHARE_FULL else SHARE_KEPT
    shares = {"tint": SHARE_TINT_TOLD, "size": SHARE_SIZE_TOLD}
    return [name for name in CAPTIONED if drawn.random() < shares.get(name, kept)]


def plain_caption(scene: Scene, attributes: Collection[str] = CAPTIONED) -> str:
    """The plainest caption that tells these attributes; never the size, which places tell."""

    def plain(attribute: str, value: str) -> str:
        return words_for((attribute, value))[0] if f"{attribute}s" in attributes else ""

    things = [
        " ".join(filter(None, (plain("concept", concept), plain("place", place))))
        for concept, place in zip(scene.concepts, scene.places, strict=True)
    ]
    style = scene.style if "style" in attributes else ""
    tint = scene.tint if "tint" in attributes and scene.tint != NATURAL else ""
    ground = f"on {scene.ground}" if "ground" in attributes else ""
    return " ".join(filter(None, (style, tint, " and ".join(filter(None, things)), ground)))


def random_caption(scene: Scene, attributes: Collection[str], drawn: random.Random) -> list[Phrase]:
    """A caption that tells these attributes, in any of their words."""
    if not attributes:
        return []
    parts = drawing_phrases(scene, 0, attributes, drawn)
    if len(scene.concepts) == 2:
        second = drawing_phrases(scene, 1, attributes, drawn)
        parts += [Phrase(drawn.choice(("and", "and", "and a"))), *second]
    style = [any_phrase(("style", scene.style), drawn)] if "style" in attributes else []
    ground = ground_phrases(scene, drawn) if "ground" in attributes else []
    if style and drawn.random() < 0.3:
        style = [*style, Phrase(drawn.choice(("style", "style", "drawing"))), Phrase(",")]
    elif style and drawn.random() < 0.2 and len(parts) + len(ground) < 9:
        ground, style = [*ground, Phrase(drawn.choice((", in a", ","))), *style, Phrase("style")], []
    if ground and drawn.random() < 0.2 and "," not in (phrase.words for phrase in style):
        text = [*ground, Phrase(","), *style, *parts]
    else:
        text = [*style, *parts, *ground]
    if too_long(text):
        text = [phrase for phrase in text if phrase.sense or phrase.words in (",", "and")]
    first = replace(text[0], words=text[0].words.lstrip(" ,"))
    text = [*([first] if first.words else []), *text[1:]]
    return text if drawn.random() < 0.5 or too_long(text, 1) else [Phrase("a"), *text]


def any_phrase(sense: Sense, drawn: random.Random, second: bool = False) -> Phrase:
    """A phrase for a sense: in half of the cases the plain word."""
    words = words_for(sense)
    return Phrase(words[0] if drawn.random() < 0.5 else drawn.choice(words), sense, second)


def too_long(text: Sequence[Phrase], more: int = 0) -> bool:
    return sum(len(phrase.words.split()) for phrase in text) + more > MOST_WORDS


def drawing_phrases(scene: Scene, number: int, attributes: Collection[str], drawn: random.Random) -> list[Phrase]:
    """One drawing's phrases; the colour and the size of two are told of the first."""
    second, senses = number == 1, []
    if not second and "size" in attributes:
        senses.append(("size", size_of(scene)))
    if not second and "tint" in attributes and scene.tint != NATURAL:
        senses.append(("tint", scene.tint))
    if "concepts" in attributes:
        senses.append(("concept", scene.concepts[number]))
    phrases = [any_phrase(sense, drawn, second) for sense in senses]
    phrases += [] if "concepts" in attributes else [Phrase(drawn.choice(NAMELESS))]
    return phrases + ([any_phrase(("place", scene.places[number]), drawn, second)] if "places" in attributes else [])


def ground_phrases(scene: Scene, drawn: random.Random) -> list[Phrase]:
    ground, on = any_phrase(("ground", scene.ground), drawn), drawn.choice(("on", "on", ", on", "against", ","))
    noun = drawn.choice(("background", "background", "ground", "backdrop"))
    if drawn.random() < 0.4:
        return [Phrase(on), ground]
    return [Phrase(on if on == "," else f"{on} a"), ground, Phrase(noun)]


def random_instruction(task: str, drawn: random.Random) -> list[Phrase]:
    """An instruction to train the text encoder on: of all words, but in no held-out frame."""
    return instruction(drawn.choice(FRAMES), drawn.choice(TASK_WORDS[task]), task)


def instruction(frame: str, word: str, task: str | None = None) -> list[Phrase]:
    before, _, after = frame.partition("{}")
    before = before.replace("the ", "") if word in ("everything", "all of it") else before
    phrases = Phrase(before.strip()), Phrase(word, ("task", task) if task else None), Phrase(after.strip())
    return [phrase for phrase in phrases if phrase.words]


def trained_wordings(task: str) -> tuple[str, ...]:
    """All wordings of a task that adapters are trained on."""
    words = [word for word in TASK_WORDS[task] if word != HELD_OUT_WORDS[task]]
    return tuple(text_of(instruction(frame, word)) for frame in FRAMES for word in words)


def held_out_wordings(task: str) -> tuple[str, ...]:
    """Wordings whose frame or whose word is never in training."""
    plain = TASK_WORDS[task][0]
    some = [instruction(frame, plain) for frame in HELD_OUT_FRAMES]
    return tuple(map(text_of, [*some, instruction(FRAMES[0], HELD_OUT_WORDS[task])]))
