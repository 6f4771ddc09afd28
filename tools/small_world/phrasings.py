"""Instructions for the world's tasks: many phrasings of each, none with a word that names another task.

Some are held out of training, so that it can be measured whether an instruction is understood or learnt by heart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from small_world.scenes import TASKS

HELD_OUT_EVERY = 5  # the first of so many is held out

PHRASINGS: Mapping[str, tuple[str, ...]] = {
    "colour": (
        "take the colour from the picture",
        "use the colour",
        "use the color",
        "copy the colour",
        "keep the colour of the reference",
        "use the same colour as in the image",
        "match the colour of the reference",
        "paint it in this colour",
        "take only the colour",
        "the colour should be as shown",
        "give it the color of the picture",
        "transfer the colour to the new picture",
        "reuse the colour that you see",
        "follow the colour of the image",
        "colour it like the reference",
        "make its colour the same",
        "borrow the colour",
        "let the colour come from the image",
        "use the hue and colour of the reference",
        "apply the colour of this picture",
        "pick the colour from the image",
        "the same color, please",
        "only the colour matters",
        "tint it with the colour of the reference",
        "I want this colour",
    ),
    "composition": (
        "take the composition from the picture",
        "use the composition",
        "copy the composition",
        "keep the composition of the reference",
        "use the same composition as in the image",
        "match the composition of the reference",
        "arrange it with this composition",
        "take only the composition",
        "the composition should be as shown",
        "give it the composition of the picture",
        "transfer the composition to the new picture",
        "reuse the composition that you see",
        "follow the composition of the image",
        "lay it out in the composition of the reference",
        "make its composition the same",
        "borrow the composition",
        "let the composition come from the image",
        "use the layout and composition of the reference",
        "apply the composition of this picture",
        "use the composition: where it is and how big",
        "the same composition, please",
        "only the composition matters",
        "place and size it by the composition of the reference",
        "I want this composition",
        "use the overall composition",
    ),
    "object": (
        "take the object from the picture",
        "use the object",
        "copy the object",
        "keep the object of the reference",
        "use the same object as in the image",
        "match the object of the reference",
        "draw this object",
        "take only the object",
        "the object should be as shown",
        "give it the object of the picture",
        "transfer the object to the new picture",
        "reuse the object that you see",
        "follow the object of the image",
        "show the same kind of object",
        "make the object the same",
        "borrow the object",
        "let the object come from the image",
        "use the shape of the object of the reference",
        "apply the object of this picture",
        "use the main object",
        "the same object, please",
        "only the object matters",
        "put the object of the reference there",
        "I want this object",
        "use the kind of object that is shown",
    ),
    "style": (
        "take the style from the picture",
        "use the style",
        "copy the style",
        "keep the style of the reference",
        "use the same style as in the image",
        "match the style of the reference",
        "draw it in this style",
        "take only the style",
        "the style should be as shown",
        "give it the style of the picture",
        "transfer the style to the new picture",
        "reuse the style that you see",
        "follow the style of the image",
        "style it like the reference",
        "make its style the same",
        "borrow the style",
        "let the style come from the image",
        "use the look and style of the reference",
        "apply the style of this picture",
        "use the visual style",
        "the same style, please",
        "only the style matters",
        "decorate it in the style of the reference",
        "I want this style",
        "use the style of the pattern that is shown",
    ),
    "everything": (
        "take everything from the picture",
        "use everything from the image",
        "use everything",
        "copy everything",
        "keep everything of the reference",
        "use everything that is in the image",
        "match everything of the reference",
        "draw everything as it is here",
        "take everything",
        "everything should be as shown",
        "give it everything of the picture",
        "transfer everything to the new picture",
        "reuse everything that you see",
        "follow everything in the image",
        "make everything like the reference",
        "make everything the same",
        "borrow everything",
        "let everything come from the image",
        "use everything about the reference",
        "apply everything in this picture",
        "everything that is shown",
        "the same everything, please",
        "everything matters",
        "repeat everything of the reference",
        "I want everything as in this picture",
    ),
}
PLAIN: Mapping[str, str] = {
    **{task: f"use the {task}" for task in TASKS},
    "everything": "use everything from the image",
}


def held_out(task: str) -> tuple[str, ...]:
    """The phrasings of a task that are never trained on."""
    return PHRASINGS[task][::HELD_OUT_EVERY]


def trained(task: str) -> tuple[str, ...]:
    """The phrasings of a task to train on; the plain instruction is one."""
    return tuple(phrasing for phrasing in PHRASINGS[task] if phrasing not in held_out(task))


def random_phrasing(task: str, drawn: random.Random) -> str:
    return drawn.choice(trained(task))
