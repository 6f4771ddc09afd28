"""Other words for instructions: phrasings of the trained tasks, and of what a user trains.

The adapter was trained on many phrasings of each task, drawn at random, so that it follows plain English rather than
nine fixed sentences. The training's own list is not published; these phrasings are this pack's.
Source: arXiv 2408.03209.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from .tasks import KNOWN, Task

SENTENCES = (
    "use {}",
    "take {}",
    "keep {}",
    "copy {}",
    "reuse {} of this picture",
    "match {} of the reference",
    "follow {} of the image",
    "transfer {} to the new image",
)
VERBS = re.compile(r"(?:use|take|keep|copy) (?P<what>.+)", re.DOTALL)


def phrasings(task: Task) -> tuple[str, ...]:
    """Return every phrasing of a task's instruction. With each, guidance `auto` chooses as with the plain one."""
    return tuple(sentence.format(wording) for wording in task.wordings for sentence in SENTENCES)


def phrasing(task: Task, seed: int) -> str:
    """Return the phrasing that `seed` draws."""
    return random.Random(seed).choice(phrasings(task))


def instructions_of(task: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the instructions for a task: the given ones, or the phrasings of a known task.

    One given instruction that begins with a verb such as use or take is said in other words, too.
    Raises ValueError for a task that is not known when no instruction is given.
    """
    given = tuple(text.strip() for text in given if text.strip())
    if len(given) == 1:
        return in_other_words(given[0])
    if given:
        return given
    if task not in KNOWN:
        raise ValueError(
            f"An instruction was expected for the task {task!r}, which is none of {', '.join(KNOWN)}; there is none. "
            "Give one, or a list of phrasings."
        )
    return phrasings(KNOWN[task])


def in_other_words(instruction: str) -> tuple[str, ...]:
    """Return an instruction and its like: "use the brush strokes" is also "take the brush strokes" and so on."""
    found = VERBS.fullmatch(instruction)
    if found is None:
        return (instruction,)
    return tuple(dict.fromkeys([instruction, *(sentence.format(found["what"]) for sentence in SENTENCES)]))


def check_apart(tasks: Mapping[str, Iterable[str]]) -> None:
    """Raises ValueError for an instruction that names another of the tasks that are trained together.

    Source: arXiv 2408.03209 section 4: no phrasing of a task holds the keyword of another.
    """
    for task, texts in tasks.items():
        for text in texts:
            other = next((name for name in tasks if name != task and _names(name, text)), None)
            if other is not None:
                raise ValueError(
                    f"An instruction for the task {task!r} was expected to name no other task; {text!r} names "
                    f"{other!r}. Say it in other words."
                )


def _names(task: str, text: str) -> bool:
    return KNOWN.get(task, Task(task.lower(), (), ())).is_named_in(text)
