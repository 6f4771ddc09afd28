"""The recipe of each task's pairs: its shipped workflow, what that takes and gives, and what a new picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...models.guidance.tasks import KNOWN

PICTURE, SECOND, MASK, POSE = "Picture", "Second picture", "Mask", "Pose"
CAPTION, PROMPT, OBJECT, SEED = "Caption", "Prompt", "Object", "Seed"
REFERENCE, TARGET = "Reference", "Target"
PAIR_PLACES = {  # of a workflow, for the values of a row, with their kinds
    **dict.fromkeys((PICTURE, SECOND, MASK, POSE), "picture"),
    **dict.fromkeys((CAPTION, PROMPT, OBJECT), "text"),
    SEED: "seed",
    "Action": "action",
    "Invert": "invert",
}
OUTPUTS = (REFERENCE, TARGET, CAPTION)
OWN, OTHER = "own", "other"  # whose words the new picture is made by: the picture's own, or other ones


@dataclass(frozen=True)
class Recipe:
    """The making of one task's pairs. needs: fields that every picture must have.

    workflow: a shipped one's name; "": none is needed. inputs, outputs: places that it must have. words: of the new
    picture. values: of places, the same for all.
    """

    task: str
    workflow: str = ""
    needs: tuple[str, ...] = ("caption",)
    inputs: tuple[str, ...] = (PICTURE,)
    outputs: tuple[str, ...] = (TARGET,)
    words: str = OWN
    values: Mapping[str, object] = field(default_factory=dict)


DRAWN = (PICTURE, PROMPT, SEED)
REMADE = (*DRAWN, "Invert")
PREPARED = {"Action": "cut out and crop"}
RECIPES = {
    recipe.task: recipe
    for recipe in (
        Recipe("everything", inputs=(), outputs=()),
        Recipe("style", "pairs_style", (), DRAWN, words=OTHER),
        Recipe("colour", "pairs_colour", (), DRAWN, words=OTHER),
        Recipe("composition", "pairs_composition", inputs=DRAWN),
        Recipe("pose", "pairs_pose", (), (PROMPT, SEED), words=OTHER),
        Recipe("object", "pairs_cut_out", ("caption", "object"), outputs=(REFERENCE,), values=PREPARED),
        Recipe("face", "pairs_cut_out", ("caption", "identity"), outputs=(REFERENCE,), values={"Action": "crop"}),
        Recipe("foreground", "pairs_new_part", (), REMADE, words=OTHER, values={"Invert": False}),
        Recipe("background", "pairs_new_part", (), REMADE, words=OTHER, values={"Invert": True}),
    )
}


def recipe_of(task: str, has_instruction: bool, has_workflow: bool) -> Recipe:
    """Return a task's recipe. One of a user's own needs an instruction and a workflow; else ValueError is raised."""
    if task in RECIPES:
        return RECIPES[task]
    if not (has_instruction and has_workflow):
        raise ValueError(
            f"One of the tasks {', '.join(KNOWN)} was expected, or another with --instruction and --workflow; "
            f"it is {task}. Name one of these, or give both."
        )
    return Recipe(task, needs=(), inputs=(), outputs=(), words=OTHER)
