"""The workflows about references: several of them; and one that is prepared, told what to leave behind, or stored."""

from __future__ import annotations

from shipped.graph import Node, Source
from shipped.notes import ENCODER
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LATENTS,
    LOADING,
    NEGATIVE,
    PICTURE_STEP,
    PICTURE_TOP,
    PREPARING,
    PROMPTS,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    SECOND_PICTURE,
    TOP,
    InstructWorkflow,
)

SECOND_ROW = 720  # where the nodes of the right half stand
HALVES = 1560  # where the masks of the halves stand
OBJECT = "use the object, a helmet"


def several_references(workflow: InstructWorkflow) -> None:
    """Take three pictures, an instruction and a weight each, and one Apply; the references are a row from below."""
    workflow.load("Picture for the face")
    pictures: dict[str, Source] = {"face": workflow.loaded}
    for place, task in ((1, "composition"), (2, "style")):
        pos = LOADING, PICTURE_TOP + PICTURE_STEP * place
        pictures[task] = workflow.load_picture(pos, f"Picture for the {task}")
    row = None
    for place, task, weight in ((2, "style", 1.0), (1, "composition", 0.6), (0, "face", 0.8)):
        inputs = {"image": pictures[task], "instruction": f"use the {task}", "weight": weight, "references": row}
        row = workflow.reference((READING, PICTURE_TOP + PICTURE_STEP * place), **inputs)
    workflow.instruct_in_a_column("style", PROMPTS["face"], row)
    workflow.explain(size=(780, 340))
    workflow.frames(load=1930, instruct=1930)


def batch_of_references(workflow: InstructWorkflow) -> None:
    """Put two references into one batch, the first for the first picture of a batch, the second for the second."""
    workflow.load("For the first picture", (PREPARING, TOP))
    second = workflow.load_picture((PREPARING, TOP + PICTURE_STEP), "For the second picture")
    part = {"width": 384, "height": 384, "x": 192, "y": 0}
    cropped = workflow.add("ImageCrop", (LOADING, PICTURE_TOP), (360, 170), image=second, **part)
    both = workflow.batch(workflow.loaded, cropped, (LOADING, PICTURE_TOP + 230))
    row = workflow.reference((READING, TOP), image=both, combine="one per batch index")
    factors = {"factors": "1", "batch_factors": "1, 0.6"}
    schedule = workflow.add("IPAdapterInstructSchedule", (READING, BELOW_ENCODE), (400, 300), **factors)
    pictures = workflow.instruct_in_a_column("style", row=row, batch=2, schedule=schedule)
    columns = ["first reference, weight 0.8", "second reference, weight 0.48"]
    sheet = workflow.labelled(pictures, (SAMPLING, 780), columns)
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


def prompt_within(workflow: InstructWorkflow, encoded: Node, mask: Node, top: int) -> Node:
    """Limit what an Encode says to the sampler to a mask."""
    inputs = {"conditioning": encoded["positive"], "mask": mask, "set_cond_area": "default"}
    return workflow.add("ConditioningSetMask", (APPLYING, top), (360, 110), **inputs)


def halves(workflow: InstructWorkflow) -> tuple[Node, Node]:
    """Return masks of the left and the right half with a soft edge, made in the graph."""
    (_, side), edge, top = LATENTS[workflow.family.name], 64, HALVES
    width = (side + edge) // 2
    nothing = workflow.add("SolidMask", (LOADING, top), (360, 130), "Nothing", value=0.0, width=side, height=side)
    half = workflow.add("SolidMask", (LOADING, top + 180), (360, 130), "A half", width=width, height=side)
    soft = workflow.add("FeatherMask", (LOADING, top + 360), (360, 140), "Soft edge", mask=half, right=edge)
    put = {"destination": nothing, "source": soft, "operation": "add"}
    left = workflow.add("MaskComposite", (READING, top), (400, 150), "Left", **put)
    return left, workflow.add("InvertMask", (READING, top + 210), (400, 60), "Right", mask=left)


def negative_instruction(workflow: InstructWorkflow) -> None:
    """Say what to take from the picture, and what to leave behind."""
    workflow.load()
    left = "use the composition"
    row = workflow.reference((READING, TOP), image=workflow.loaded, negative_instruction=left)
    workflow.instruct_in_a_column("style", row=row)
    workflow.explain()
    workflow.frames(instruct=ROW_HEIGHT)


def object_cut_out(workflow: InstructWorkflow) -> None:
    """Show an object on a plain colour, and large."""
    workflow.load(pos=(PREPARING, TOP))
    places = (PREPARING, 600), (PREPARING, 780), (PREPARING, 960)
    mask = workflow.square_mask(places, ("Leave this", "Keep this"))
    how = {"mask": mask, "action": "cut out and crop", "seed": 1, "feather": 4.0}
    prepared = workflow.add("IPAdapterInstructPrepare", (LOADING, PICTURE_TOP), (360, 310), **how)
    workflow.add("PreviewImage", (LOADING, PICTURE_TOP + 370), (360, 340), "What the encoder sees", images=prepared)
    encoded = workflow.encode(OBJECT, PROMPTS["object"], image=prepared)
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.explain((READING, 750), (820, 340))
    workflow.group("Reference and mask", PREPARING - 20, 10, 400, 1160)
    workflow.frames(load=1225)
    workflow.move_right(LOADING - PREPARING)


def detail_tiles(workflow: InstructWorkflow) -> None:
    """Read a large picture in tiles, for the detail of its style."""
    workflow.load()
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, PICTURE_TOP + 470), (360, 150))
    encoded = workflow.encode("style", image=tiles)
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.explain((READING, 750), (820, 300))
    workflow.frames(load=1140)


def stored_embeds(workflow: InstructWorkflow) -> None:
    """Keep what was encoded in a file, and read a picture's states by another instruction."""
    workflow.load()
    encoded = workflow.encode("style")
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    save, top = "IPAdapterInstructSaveEmbeds", 1090
    workflow.add(save, (READING, BELOW_ENCODE), (400, 90), embeds=encoded)
    # The picture as the image encoder saw it, by ComfyUI's own nodes.
    encoder = workflow.add("CLIPVisionLoader", (LOADING, top), (360, 60), models=[ENCODER], clip_name=ENCODER["name"])
    seen = workflow.add("CLIPVisionEncode", (READING, top), (400, 100), clip_vision=encoder, crop="center")
    row = workflow.reference((READING, top + 160), clip_vision_output=seen)
    other = workflow.encode("colour", pos=(APPLYING, top), width=360, references=row)
    workflow.add(save, (SAMPLING, top), (320, 90), embeds=other, filename_prefix="embeds/colour")
    workflow.explain((SAVING, 740), (400, 560))
    workflow.frames()
    workflow.group("The picture as the encoder saw it, read by another instruction", 20, top - 80, 1660, 660)


BUILDERS = (
    *(several_references, batch_of_references, regions),
    *(negative_instruction, object_cut_out, detail_tiles, stored_embeds),
)
