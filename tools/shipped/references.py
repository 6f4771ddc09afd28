"""The workflows with several references or several instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shipped import notes
from shipped.graph import Node, Output, Workflow
from shipped.parts import (
    APPLYING,
    LOADING,
    NEGATIVE,
    PREPARING,
    PREPARING_WIDTH,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    TOP,
    apply,
    empty_latent,
    encode,
    frames,
    load,
    picture,
    sample_and_save,
)

FAMILY = "sd15"
HOW = SAMPLINGS[FAMILY]
PICTURES, PICTURE_STEP = TOP + 340, 500  # where the first picture stands below the loaders, and the next ones
SECOND_ENCODE = 650


def several_references(workflow: Workflow) -> None:
    """Take three pictures, an instruction and a weight each, and one Apply."""
    loaded = load(workflow, FAMILY, "Picture for the face")
    composition, style = (
        picture(workflow, (LOADING, PICTURES + PICTURE_STEP * place), title)
        for place, title in ((1, "Picture for the composition"), (2, "Picture for the style"))
    )
    references = add_references(
        workflow,
        [
            (style, "use the style", 1.0),
            (composition, "use the composition", 0.6),
            (loaded.picture, "use the face", 0.8),
        ],
    )
    prompt, negative = PROMPTS["face"]
    encoded = workflow.add(
        "IPAdapterInstructEncodeReferences",
        (APPLYING, TOP),
        (360, 400),
        adapter=loaded.adapter["adapter"],
        clip=loaded.checkpoint["CLIP"],
        references=references,
        prompt=prompt,
        negative_prompt=negative,
    )
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "style", (APPLYING, 550))["MODEL"]
    sample_and_save(workflow, FAMILY, loaded, model, encoded, empty_latent(workflow, HOW, (APPLYING, 990)))
    workflow.note(notes.SEVERAL_REFERENCES, (SAMPLING, 760), (780, 340))
    workflow.group("Load", 20, 10, 400, 1850)
    workflow.group("Instruct", 440, 10, 860, 1850)
    workflow.group("Sample and save", 1320, 10, 820, 680)


def add_references(workflow: Workflow, rows: Sequence[tuple[Node, str, float]]) -> Output:
    """Put an Add Reference beside each picture, chained from the lowest up. rows: picture, instruction, weight."""
    before: dict[str, Output] = {}
    for place, (one, instruction, weight) in zip(reversed(range(len(rows))), rows, strict=True):
        node = workflow.add(
            "IPAdapterInstructReference",
            (READING, PICTURES + PICTURE_STEP * place),
            (400, 230),
            image=one["IMAGE"],
            instruction=instruction,
            weight=weight,
            **before,
        )
        before = {"references": node["references"]}
    return before["references"]


def blend_instructions(workflow: Workflow) -> None:
    """Read one picture by two instructions that act in different strength."""
    loaded = load(workflow, FAMILY)
    texts = PROMPTS["style"]
    style = encode(workflow, loaded, "use the style", texts)
    colour = encode(workflow, loaded, "use the colour", texts, pos=(READING, SECOND_ENCODE))
    blended = workflow.add(
        "IPAdapterInstructCombine",
        (APPLYING, TOP),
        (360, 190),
        embeds_1=style["embeds"],
        embeds_2=colour["embeds"],
        method="concat",
        weight_1=0.8,
        weight_2=0.4,
    )
    model = apply(workflow, loaded.checkpoint["MODEL"], blended, FAMILY, "style", (APPLYING, 340))["MODEL"]
    sample_and_save(workflow, FAMILY, loaded, model, style, empty_latent(workflow, HOW, (APPLYING, 770)))
    workflow.note(notes.BLEND_INSTRUCTIONS, (SAMPLING, 760), (780, 320))
    frames(workflow)
    workflow.groups[1]["bounding"][3] = 1180


def batch_of_references(workflow: Workflow) -> None:
    """Put two references into one batch, the first for the first picture of a batch, the second for the second."""
    loaded = load(workflow, FAMILY, "For the first picture", (PREPARING, TOP))
    second = picture(workflow, (PREPARING, TOP + PICTURE_STEP), "For the second picture")
    part = workflow.add(
        "ImageCrop", (LOADING, PICTURES), (360, 170), image=second["IMAGE"], width=384, height=384, x=192, y=0
    )
    both = workflow.add("ImageBatch", (LOADING, 650), (360, 60), image1=loaded.picture["IMAGE"], image2=part["IMAGE"])
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"], image=both["IMAGE"], several="one per latent")
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "style", batch_weights="1, 0.6")["MODEL"]
    pictures = sample_and_save(workflow, FAMILY, loaded, model, encoded, empty_latent(workflow, HOW, batch=2))
    sheet = workflow.add(
        "IPAdapterInstructLabelGrid",
        (SAMPLING, 780),
        (320, 250),
        images=pictures,
        column_labels="first reference, weight 0.8\nsecond reference, weight 0.48",
    )
    workflow.add("PreviewImage", (SAVING, 780), (400, 300), images=sheet["grid"])
    workflow.note(notes.BATCH_OF_REFERENCES, (READING, 750), (820, 340))
    workflow.group("References", PREPARING - 20, 10, 400, 1010)
    workflow.group("Side by side", SAMPLING - 20, 700, 820, 410)
    frames(workflow)
    workflow.move_right(PREPARING_WIDTH)


def regions(workflow: Workflow) -> None:
    """Give the left and the right half a picture, an instruction and a prompt each."""
    loaded = load(workflow, FAMILY, "Picture for the left")
    other = replace(loaded, picture=picture(workflow, (LOADING, PICTURES + PICTURE_STEP), "Picture for the right"))
    left, right = halves(workflow)
    first = encode(workflow, loaded, "use the style", ("a lighthouse on a cliff, left of the sea", NEGATIVE))
    second = encode(
        workflow, other, "use the colour", ("a sailing ship on the sea", NEGATIVE), pos=(READING, SECOND_ENCODE)
    )
    model = apply(workflow, loaded.checkpoint["MODEL"], first, FAMILY, "style", attn_mask=left)["MODEL"]
    model = apply(workflow, model, second, FAMILY, "colour", (APPLYING, SECOND_ENCODE), attn_mask=right)["MODEL"]
    texts = {
        f"conditioning_{place}": workflow.add(
            "ConditioningSetMask",
            (APPLYING, y),
            (360, 110),
            conditioning=encoded["positive"],
            mask=mask,
            set_cond_area="default",
        )["CONDITIONING"]
        for place, y, encoded, mask in ((1, 500, first, left), (2, 1060, second, right))
    }
    positive = workflow.add("ConditioningCombine", (SAMPLING, TOP), (320, 60), "Both prompts", **texts)
    conditioning = {"positive": positive["CONDITIONING"], "negative": first["negative"]}
    sample_and_save(
        workflow, FAMILY, loaded, model, conditioning, empty_latent(workflow, HOW, (APPLYING, 1220)), TOP + 130
    )
    workflow.note(notes.REGIONS, (SAMPLING, 850), (780, 320))
    workflow.group("Load", 20, 10, 400, 1360)
    workflow.group("Instruct", 440, 10, 860, 1360)
    workflow.group("Sample and save", 1320, 10, 820, 780)
    workflow.group("Left and right", 20, 1390, 860, 610)


def halves(workflow: Workflow) -> tuple[Output, Output]:
    """Return masks of the left and the right half with a soft edge, made in the graph."""
    side, edge = HOW.side, 64
    width = (side + edge) // 2
    nothing = workflow.add("SolidMask", (LOADING, 1470), (360, 130), "Nothing", value=0.0, width=side, height=side)
    half = workflow.add("SolidMask", (LOADING, 1650), (360, 130), "A half", width=width, height=side)
    soft = workflow.add("FeatherMask", (LOADING, 1830), (360, 140), "Soft edge", mask=half["MASK"], right=edge)
    left = workflow.add(
        "MaskComposite",
        (READING, 1470),
        (400, 150),
        "Left",
        destination=nothing["MASK"],
        source=soft["MASK"],
        operation="add",
    )
    right = workflow.add("InvertMask", (READING, 1680), (400, 60), "Right", mask=left["MASK"])
    return left["MASK"], right["MASK"]
