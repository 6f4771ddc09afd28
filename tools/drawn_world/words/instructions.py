"""Instructions: many wordings of each task, of which some are held out of all training."""

from __future__ import annotations

import random
from collections.abc import Mapping

from drawn_world.pictures.scenes import TASKS
from drawn_world.words.senses import DATA, TASK_WORDS, Said, text_of

FRAMES: tuple[str, ...] = tuple(DATA["frames"])  # the plain one first
HELD_OUT_FRAMES: tuple[str, ...] = tuple(DATA["held_out_frames"])
HELD_OUT_WORDS: Mapping[str, str] = DATA["held_out_words"]  # the text encoder knows them, no adapter does
PLAIN: Mapping[str, str] = {task: f"use the {TASK_WORDS[task][0]}".replace("the every", "every") for task in TASKS}


def trained(task: str) -> tuple[str, ...]:
    """The wordings of a task to train on."""
    words = [word for word in TASK_WORDS[task] if word != HELD_OUT_WORDS[task]]
    return tuple(wording(frame, word) for frame in FRAMES for word in words)


def held_out(task: str) -> tuple[str, ...]:
    """Wordings whose frame or whose word is never in training."""
    plain = TASK_WORDS[task][0]
    return (*(wording(frame, plain) for frame in HELD_OUT_FRAMES), wording(FRAMES[0], HELD_OUT_WORDS[task]))


def wording(frame: str, word: str) -> str:
    return text_of(said(frame, word, None))


def said(frame: str, word: str, task: str | None) -> list[Said]:
    before, _, after = frame.partition("{}")
    before = before.replace("the ", "") if word in ("everything", "all of it") else before
    told = Said(word, ("task", task) if task else None)
    return [part for part in (Said(before.strip()), told, Said(after.strip())) if part.words]


def random_instruction(task: str, drawn: random.Random) -> list[Said]:
    """One for the text encoder to be trained on, with what its words mean: all words, but no held-out frame."""
    return said(drawn.choice(FRAMES), drawn.choice(TASK_WORDS[task]), task)
