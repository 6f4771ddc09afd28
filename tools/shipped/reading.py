"""The workflows that show how a picture is read: prepared for the encoder, told what to leave, stored."""

from __future__ import annotations

from shipped.columns import (
    APPLYING,
    BELOW_ENCODE,
    LOADING,
    PICTURE_TOP,
    PREPARING,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    TOP,
)
from shipped.files import ENCODER
from shipped.graph import Output
from shipped.parts import PROMPTS, InstructWorkflow

OBJECT = "use the object, a helmet"


def negative_instruction(workflow: InstructWorkflow) -> None:
    """Say what to take from the picture, and what to leave behind."""
    workflow.load()
    left = "use the composition"
    row = workflow.reference((READING, TOP), image=workflow.picture, negative_instruction=left)
    workflow.instruct_in_a_column("style", row=row)
    workflow.explain()
    workflow.frames(instruct=ROW_HEIGHT)


def object_cut_out(workflow: InstructWorkflow) -> None:
    """Show an object on a plain colour, and large."""
    workflow.load(pos=(PREPARING, TOP))
    places = (PREPARING, 600), (PREPARING, 780), (PREPARING, 960)
    mask = workflow.square_mask(places, ("Leave this", "Keep this"))
    how = {"image": workflow.picture, "mask": mask, "action": "cut out and crop", "seed": 1, "feather": 4.0}
    prepared = workflow.add("IPAdapterInstructPrepare", (LOADING, PICTURE_TOP), (360, 310), **how)["image"]
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
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, PICTURE_TOP + 470), (360, 150), image=workflow.picture)
    encoded = workflow.encode("style", image=tiles["image"])
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.explain((READING, 750), (820, 300))
    workflow.frames(load=1140)


def stored_embeds(workflow: InstructWorkflow) -> None:
    """Keep what was encoded in a file, and read a picture's states by another instruction."""
    workflow.load()
    encoded = workflow.encode("style")
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    save, top = "IPAdapterInstructSaveEmbeds", 1090
    workflow.add(save, (READING, BELOW_ENCODE), (400, 90), embeds=encoded["embeds"])
    row = workflow.reference((READING, top + 160), clip_vision_output=states_of_picture(workflow, top))
    other = workflow.encode("colour", pos=(APPLYING, top), width=360, references=row)
    workflow.add(save, (SAMPLING, top), (320, 90), embeds=other["embeds"], filename_prefix="embeds/colour")
    workflow.explain((SAVING, 740), (400, 560))
    workflow.frames()
    workflow.group("The picture as the encoder saw it, read by another instruction", 20, top - 80, 1660, 660)


def states_of_picture(workflow: InstructWorkflow, top: int) -> Output:
    """Add ComfyUI's own nodes for a picture as the image encoder saw it."""
    encoder = workflow.add("CLIPVisionLoader", (LOADING, top), (360, 60), models=[ENCODER], clip_name=ENCODER["name"])
    inputs = {"clip_vision": encoder["CLIP_VISION"], "image": workflow.picture, "crop": "center"}
    return workflow.add("CLIPVisionEncode", (READING, top), (400, 100), **inputs)["CLIP_VISION_OUTPUT"]


BUILDERS = (negative_instruction, object_cut_out, detail_tiles, stored_embeds)
