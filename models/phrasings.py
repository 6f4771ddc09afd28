"""Other words for the trained tasks' instructions.

The adapter was trained on many phrasings of each task, drawn at random, so that it follows plain English rather than
nine fixed sentences. The training's own list is not published; these phrasings are this pack's.
Source: arXiv 2408.03209.
"""

from __future__ import annotations

import random

from .tasks import Task

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
WORDINGS = {  # each names its task as `auto` looks for it, and no other task
    "everything": ("everything", "everything that is shown", "everything about it"),
    "style": ("the style", "the artistic style", "the visual style"),
    "colour": ("the colour", "the colours", "the colour palette", "the color scheme"),
    "pose": ("the pose", "the body pose", "the pose of the person"),
    "composition": ("the composition", "the overall composition", "the composition and layout"),
    "face": ("the face", "the person's face", "the facial features"),
    "foreground": ("the foreground", "only the foreground", "what is in the foreground"),
    "background": ("the background", "only the background", "what is in the background"),
    "object": ("the object", "the main object", "the object that is shown"),
}


def phrasings(task: Task) -> tuple[str, ...]:
    """Every phrasing of a task's instruction; with each, guidance `auto` chooses as with the plain one."""
    return tuple(sentence.format(wording) for wording in WORDINGS[task.name] for sentence in SENTENCES)


def phrasing(task: Task, seed: int) -> str:
    """The phrasing that `seed` draws."""
    return random.Random(seed).choice(phrasings(task))
