"""The instructions that a task is taught with: many phrasings, none of which names another task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ..phrasings import SENTENCES, phrasings
from ..tasks import TASKS, Task

KNOWN: Mapping[str, Task] = {task.name: task for task in TASKS}
VERBS = re.compile(r"(?:use|take|keep|copy) (?P<what>.+)", re.DOTALL)


def instructions_of(task: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """What to say for a task: the given instructions, or the phrasings of a known task.

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
    """An instruction and its like: "use the brush strokes" is also "take the brush strokes" and so on."""
    found = VERBS.fullmatch(instruction)
    if found is None:
        return (instruction,)
    return tuple(dict.fromkeys([instruction, *(sentence.format(found["what"]) for sentence in SENTENCES)]))


def check_apart(tasks: Mapping[str, Iterable[str]]) -> None:
    """Raises ValueError for an instruction that names another of the tasks that are taught together.

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
    words = KNOWN[task].keywords if task in KNOWN else (task.lower(),)
    return any(word in text.lower() for word in words)
