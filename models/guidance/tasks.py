"""The tasks IPAdapter-Instruct was trained on, how instructions say them, and what an instruction implies.

The adapter was trained on many phrasings of each task, drawn at random, so that it follows plain English rather than
nine fixed sentences. The training's own list is not published; the phrasings here are this pack's.
Source: arXiv 2408.03209.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..families import SD3, SD15, SDXL, Family, Settings
from ..messages import check_choice


@dataclass(frozen=True)
class Task:
    """A trained task. wordings: what an instruction takes in its place, the plain one first; `auto` finds the task in
    each, and no other. words: other words, in small letters, by which instructions name it.

    Source: arXiv 2408.03209 section 4, and the model card (beta: the tasks it calls so).
    """

    name: str
    families: tuple[Family, ...]
    wordings: tuple[str, ...]
    words: tuple[str, ...] = ()
    beta: bool = False

    @property
    def instruction(self) -> str:
        """An instruction that works."""
        return f"use {self.wordings[0]}"

    @property
    def keywords(self) -> tuple[str, ...]:
        """The words, in small letters, by which an instruction names the task; its own case does not count."""
        return (self.name, *self.words)

    def is_named_in(self, instruction: str) -> bool:
        return any(word in instruction.lower() for word in self.keywords)


ALL_FAMILIES = (SD15, SDXL, SD3)
TASKS = (
    Task("everything", ALL_FAMILIES, ("everything", "everything that is shown", "everything about it")),
    Task("style", ALL_FAMILIES, ("the style", "the artistic style", "the visual style")),
    Task("colour", ALL_FAMILIES, ("the colour", "the colours", "the colour palette", "the color scheme"), ("color",)),
    Task("pose", ALL_FAMILIES, ("the pose", "the body pose", "the pose of the person")),
    Task("composition", ALL_FAMILIES, ("the composition", "the overall composition", "the composition and layout")),
    Task("face", ALL_FAMILIES, ("the face", "the person's face", "the facial features"), ("facial",)),
    Task("foreground", (SD15,), ("the foreground", "only the foreground", "what is in the foreground"), beta=True),
    Task("background", (SD15,), ("the background", "only the background", "what is in the background"), beta=True),
    Task("object", (SD15,), ("the object", "the main object", "the object that is shown")),
)
KNOWN = {task.name: task for task in TASKS}
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

OWN_WORDS = "own words"
AUTO = "auto"
INSTRUCTIONS_SHOWN = 3  # of the instructions that a file was trained on
SIMPLE = "simple"
THREE_WAY = "three-way"


def instruction_of(task: str, own_words: str) -> str:
    """Return a task's own wording, or the user's where it is OWN_WORDS. Raises ValueError for what is no task."""
    check_choice("task", task, (OWN_WORDS, *KNOWN))
    return KNOWN[task].instruction if task in KNOWN else own_words


def recommended(family: Family, task: Task) -> Settings:
    """Return the authors' settings for a task, for guidance `auto`, which itself lowers the weight where they do.

    Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos.
    """
    for names, instruct_guidance in family.stronger_tasks:
        if task.name in names:
            return replace(family.settings, instruct_guidance=instruct_guidance)
    return family.settings


def describe_instruction(family: Family, instruction: str, trained: Sequence[str] = ()) -> str:
    """Return one line for the user: which trained task an instruction names, or that it names none.

    trained: instructions that the file itself says it was trained on.
    """
    if is_among(instruction, trained):
        return "instruction: this file was trained on it"
    tasks = [task for task in TASKS if family in task.families]
    named = [task for task in tasks if task.is_named_in(instruction)]
    if named:
        return "instruction: trained on " + ", ".join(task.name + (" (beta)" if task.beta else "") for task in named)
    known = ", ".join(task.name for task in tasks)
    if trained:
        more = ", ..." if len(trained) > INSTRUCTIONS_SHOWN else ""
        known = f"{', '.join(trained[:INSTRUCTIONS_SHOWN])}{more}; published ones: {known}"
    return f"instruction: not one that {family.title}'s adapter was trained on ({known}); it may do little"


@dataclass(frozen=True)
class Advice:
    """The choice that `auto` makes for an instruction: a guidance mode, a change of weight, and why, in words."""

    guidance: str
    weight_change: float
    reasons: tuple[str, ...]


def advise(family: Family, instruction: str) -> Advice:
    """Return what `auto` chooses for an instruction, by the reference's rule.

    Words are looked for as case-sensitive substrings, as the reference does ("surface" contains "face").
    Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos' choice of pipeline.
    """
    word = _first_word_in(family.simple_words, instruction)
    guidance, reason = (SIMPLE, f"simple for '{word}'") if word else (THREE_WAY, "three-way, as for other tasks")
    changes = [(w, change) for words, change in family.weight_changes if (w := _first_word_in(words, instruction))]
    reasons = (reason, *(f"weight {change:+g} for '{word}'" for word, change in changes))
    return Advice(guidance, sum(change for _, change in changes), reasons)


def _first_word_in(words: tuple[str, ...], text: str) -> str | None:
    return next((word for word in words if word in text), None)


def is_among(instruction: str, trained: Iterable[str]) -> bool:
    """True when an instruction is one of those trained, whatever its case and the space around it."""
    return instruction.strip().lower() in {text.strip().lower() for text in trained}


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
