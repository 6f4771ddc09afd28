"""The workflows with several references."""

from __future__ import annotations

from shipped.columns import (
    APPLYING,
    BELOW_ENCODE,
    LOADING,
    PICTURE_STEP,
    PICTURE_TOP,
    PREPARING,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    SECOND_PICTURE,
    TOP,
)
from shipped.graph import Node, Output
from shipped.parts import LATENTS, NEGATIVE, PROMPTS, InstructWorkflow
from shipped.sheets import labelled

SECOND_ROW = 720  # where the nodes of the right half stand
HALVES = 1560  # where the masks of the halves stand


def several_references(workflow: InstructWorkflow) -> None:
    """Take three pictures, an instruction and a weight each, and one Apply; the references are a row from below."""
    workflow.load("Picture for the face")
    pictures = {"face": workflow.picture}
    for place, task in ((1, "composition"), (2, "style")):
        pos = LOADING, PICTURE_TOP + PICTURE_STEP * place
        pictures[task] = workflow.load_picture(pos, f"Picture for the {task}")
    before: dict[str, Output] = {}
    for place, task, weight in ((2, "style", 1.0), (1, "composition", 0.6), (0, "face", 0.8)):
        inputs = {"image": pictures[task], "instruction": f"use the {task}", "weight": weight, **before}
        before = {"references": workflow.reference((READING, PICTURE_TOP + PICTURE_STEP * place), **inputs)}
    workflow.instruct_in_a_column("style", PROMPTS["face"], before["references"])
    workflow.explain(size=(780, 340))
    workflow.frames(load=1930, instruct=1930)


def batch_of_references(workflow: InstructWorkflow) -> None:
    """Put two references into one batch, the first for the first picture of a batch, the second for the second."""
    workflow.load("For the first picture", (PREPARING, TOP))
    second = workflow.load_picture((PREPARING, TOP + PICTURE_STEP), "For the second picture")
    part = {"width": 384, "height": 384, "x": 192, "y": 0}
    cropped = workflow.add("ImageCrop", (LOADING, PICTURE_TOP), (360, 170), image=second, **part)["IMAGE"]
    both = workflow.batch(workflow.picture, cropped, (LOADING, PICTURE_TOP + 230))
    row = workflow.reference((READING, TOP), image=both, combine="one per batch index")
    factors = {"factors": "1", "batch_factors": "1, 0.6"}
    schedule = workflow.add("IPAdapterInstructSchedule", (READING, BELOW_ENCODE), (400, 300), **factors)["schedule"]
    pictures = workflow.instruct_in_a_column("style", row=row, batch=2, schedule=schedule)
    columns = ["first reference, weight 0.8", "second reference, weight 0.48"]
    sheet = labelled(workflow, pictures, (SAMPLING, 780), columns)
    workflow.add("PreviewImage", (SAVING, 780), (400, 300), images=sheet)
    workflow.explain((PREPARING, 1070), (780, 300))
    workflow.group("References", PREPARING - 20, 10, 400, 1010)
    workflow.group("Side by side", SAMPLING - 20, 700, 820, 410)
    workflow.frames(load=800, instruct=ROW_HEIGHT)
    workflow.move_right(LOADING - PREPARING)


def regions(workflow: InstructWorkflow) -> None:
    """Give the left and the right half a picture, an instruction and a prompt each."""
    workflow.load("Picture for the left")
    other = workflow.load_picture(SECOND_PICTURE, "Picture for the right")
    left, right = halves(workflow)
    first = workflow.encode("style", ("a lighthouse on a cliff, left of the sea", NEGATIVE))
    second = workflow.encode("colour", ("a sailing ship on the sea", NEGATIVE), (READING, SECOND_ROW), image=other)
    model = workflow.apply(first, attn_mask=left)
    model = workflow.apply(second, (APPLYING, SECOND_ROW), model=model, attn_mask=right)
    prompts = {
        "conditioning_1": prompt_within(workflow, first, left, 520),
        "conditioning_2": prompt_within(workflow, second, right, SECOND_ROW + 430),
    }
    both = workflow.add("ConditioningCombine", (SAMPLING, TOP), (320, 60), "Both prompts", **prompts)
    conditioning = {"positive": both["CONDITIONING"], "negative": first["negative"]}
    latent = workflow.empty_latent((APPLYING, SECOND_ROW + 600))
    workflow.sample_and_save(model, conditioning, latent, top=TOP + 130)
    workflow.explain((SAMPLING, 850), (780, 320))
    workflow.frames(load=1450, instruct=1470, sample=780)
    workflow.group("Left and right", 20, HALVES - 60, 860, 590)


def prompt_within(workflow: InstructWorkflow, encoded: Node, mask: Output, top: int) -> Output:
    """Limit what an Encode says to the sampler to a mask."""
    inputs = {"conditioning": encoded["positive"], "mask": mask, "set_cond_area": "default"}
    return workflow.add("ConditioningSetMask", (APPLYING, top), (360, 110), **inputs)["CONDITIONING"]


def halves(workflow: InstructWorkflow) -> tuple[Output, Output]:
    """Return masks of the left and the right half with a soft edge, made in the graph."""
    (_, side), edge, top = LATENTS[workflow.family], 64, HALVES
    width = (side + edge) // 2
    nothing = workflow.add("SolidMask", (LOADING, top), (360, 130), "Nothing", value=0.0, width=side, height=side)
    half = workflow.add("SolidMask", (LOADING, top + 180), (360, 130), "A half", width=width, height=side)
    soft = workflow.add("FeatherMask", (LOADING, top + 360), (360, 140), "Soft edge", mask=half["MASK"], right=edge)
    put = {"destination": nothing["MASK"], "source": soft["MASK"], "operation": "add"}
    left = workflow.add("MaskComposite", (READING, top), (400, 150), "Left", **put)["MASK"]
    right = workflow.add("InvertMask", (READING, top + 210), (400, 60), "Right", mask=left)["MASK"]
    return left, right


BUILDERS = (several_references, batch_of_references, regions)
