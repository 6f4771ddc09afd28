"""The workflows with several references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shipped import notes
from shipped.graph import Node, Output, Workflow
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LOADING,
    NEGATIVE,
    PICTURE_STEP,
    PICTURE_TOP,
    PREPARING,
    PREPARING_WIDTH,
    PROMPTS,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    TOP,
    apply,
    empty_latent,
    encode,
    finish_below,
    frames,
    load,
    picture,
    reference,
    sample_and_save,
)
from shipped.sheets import labelled

FAMILY = "sd15"
HALVES = 1560  # where the masks of the halves stand


def several_references(workflow: Workflow) -> None:
    """Take three pictures, an instruction and a weight each, and one Apply."""
    loaded = load(workflow, FAMILY, "Picture for the face")
    composition, style = (
        picture(workflow, (LOADING, PICTURE_TOP + PICTURE_STEP * place), title)
        for place, title in ((1, "Picture for the composition"), (2, "Picture for the style"))
    )
    row = row_of(
        workflow,
        [
            (style, "use the style", 1.0),
            (composition, "use the composition", 0.6),
            (loaded.picture, "use the face", 0.8),
        ],
    )
    finish_below(workflow, loaded, "style", PROMPTS["face"], row)
    workflow.note(notes.SEVERAL_REFERENCES, (SAMPLING, 760), (780, 340))
    frames(workflow, load=1930, instruct=1930)


def row_of(workflow: Workflow, rows: Sequence[tuple[Node, str, float]]) -> Output:
    """Put an Instruct Reference beside each picture, chained from the lowest up. rows: picture, instruction, weight."""
    before: dict[str, Output] = {}
    for place, (one, instruction, weight) in zip(reversed(range(len(rows))), rows, strict=True):
        pos = (READING, PICTURE_TOP + PICTURE_STEP * place)
        row = reference(workflow, pos, image=one["IMAGE"], instruction=instruction, weight=weight, **before)
        before = {"references": row}
    return before["references"]


def batch_of_references(workflow: Workflow) -> None:
    """Put two references into one batch, the first for the first picture of a batch, the second for the second."""
    loaded = load(workflow, FAMILY, "For the first picture", (PREPARING, TOP))
    second = picture(workflow, (PREPARING, TOP + PICTURE_STEP), "For the second picture")
    part = workflow.add(
        "ImageCrop", (LOADING, PICTURE_TOP), (360, 170), image=second["IMAGE"], width=384, height=384, x=192, y=0
    )
    images = {"image1": loaded.picture["IMAGE"], "image2": part["IMAGE"]}
    both = workflow.add("ImageBatch", (LOADING, PICTURE_TOP + 230), (360, 60), **images)
    row = reference(workflow, (READING, TOP), image=both["IMAGE"], combine="one per batch index")
    schedule = workflow.add(
        "IPAdapterInstructSchedule", (READING, BELOW_ENCODE), (400, 300), factors="1", batch_factors="1, 0.6"
    )["schedule"]
    pictures = finish_below(workflow, loaded, "style", PROMPTS["style"], row, batch=2, schedule=schedule)
    columns = ["first reference, weight 0.8", "second reference, weight 0.48"]
    sheet = labelled(workflow, pictures, (SAMPLING, 780), columns)
    workflow.add("PreviewImage", (SAVING, 780), (400, 300), images=sheet)
    workflow.note(notes.BATCH_OF_REFERENCES, (PREPARING, 1070), (780, 300))
    workflow.group("References", PREPARING - 20, 10, 400, 1010)
    workflow.group("Side by side", SAMPLING - 20, 700, 820, 410)
    frames(workflow, load=800, instruct=ROW_HEIGHT)
    workflow.move_right(PREPARING_WIDTH)


def regions(workflow: Workflow) -> None:
    """Give the left and the right half a picture, an instruction and a prompt each."""
    loaded = load(workflow, FAMILY, "Picture for the left")
    other = replace(loaded, picture=picture(workflow, (LOADING, PICTURE_TOP + PICTURE_STEP), "Picture for the right"))
    left, right = halves(workflow)
    second_row = 720
    first = encode(workflow, loaded, "style", ("a lighthouse on a cliff, left of the sea", NEGATIVE))
    second = encode(workflow, other, "colour", ("a sailing ship on the sea", NEGATIVE), (READING, second_row))
    model = apply(workflow, loaded.checkpoint["MODEL"], first, FAMILY, "style", attn_mask=left)
    model = apply(workflow, model, second, FAMILY, "colour", (APPLYING, second_row), attn_mask=right)
    texts = {
        f"conditioning_{place}": workflow.add(
            "ConditioningSetMask",
            (APPLYING, y),
            (360, 110),
            conditioning=encoded["positive"],
            mask=mask,
            set_cond_area="default",
        )["CONDITIONING"]
        for place, y, encoded, mask in ((1, 520, first, left), (2, second_row + 430, second, right))
    }
    positive = workflow.add("ConditioningCombine", (SAMPLING, TOP), (320, 60), "Both prompts", **texts)
    conditioning = {"positive": positive["CONDITIONING"], "negative": first["negative"]}
    latent = empty_latent(workflow, FAMILY, (APPLYING, second_row + 600))
    sample_and_save(workflow, FAMILY, loaded, model, conditioning, latent, TOP + 130)
    workflow.note(notes.REGIONS, (SAMPLING, 850), (780, 320))
    frames(workflow, load=1450, instruct=1470, sample=780)
    workflow.group("Left and right", 20, HALVES - 60, 860, 590)


def halves(workflow: Workflow) -> tuple[Output, Output]:
    """Return masks of the left and the right half with a soft edge, made in the graph."""
    side, edge, top = SAMPLINGS[FAMILY].side, 64, HALVES
    width = (side + edge) // 2
    nothing = workflow.add("SolidMask", (LOADING, top), (360, 130), "Nothing", value=0.0, width=side, height=side)
    half = workflow.add("SolidMask", (LOADING, top + 180), (360, 130), "A half", width=width, height=side)
    soft = workflow.add("FeatherMask", (LOADING, top + 360), (360, 140), "Soft edge", mask=half["MASK"], right=edge)
    left = workflow.add(
        "MaskComposite",
        (READING, top),
        (400, 150),
        "Left",
        destination=nothing["MASK"],
        source=soft["MASK"],
        operation="add",
    )
    right = workflow.add("InvertMask", (READING, top + 210), (400, 60), "Right", mask=left["MASK"])
    return left["MASK"], right["MASK"]
