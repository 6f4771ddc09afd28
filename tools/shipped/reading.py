"""The workflows that show how a picture is read: prepared for the encoder, told what to leave, stored."""

from __future__ import annotations

from shipped import notes
from shipped.files import ENCODER
from shipped.graph import Output, Workflow
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LOADING,
    PICTURE_TOP,
    PREPARING,
    PREPARING_WIDTH,
    PROMPTS,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    TOP,
    Loaded,
    encode,
    finish,
    finish_below,
    frames,
    load,
    reference,
    square,
)

FAMILY = "sd15"
OBJECT = "use the object, a helmet"


def negative_instruction(workflow: Workflow) -> None:
    """Say what to take from the picture, and what to leave behind."""
    loaded = load(workflow, FAMILY)
    left = {"negative_instruction": "use the composition"}
    row = reference(workflow, (READING, TOP), image=loaded.picture["IMAGE"], **left)
    finish_below(workflow, loaded, "style", PROMPTS["style"], row)
    workflow.note(notes.NEGATIVE_INSTRUCTION, (SAMPLING, 760), (780, 320))
    frames(workflow, instruct=ROW_HEIGHT)


def object_cut_out(workflow: Workflow) -> None:
    """Show an object on a plain colour, and large."""
    loaded = load(workflow, FAMILY, pos=(PREPARING, TOP))
    places = (PREPARING, 600), (PREPARING, 780), (PREPARING, 960)
    mask = square(workflow, places, ("Leave this", "Keep this", "Instead of a mask drawn by hand"))
    prepared = workflow.add(
        "IPAdapterInstructPrepare",
        (LOADING, PICTURE_TOP),
        (360, 310),
        image=loaded.picture["IMAGE"],
        mask=mask,
        action="cut out and crop",
        seed=1,
        feather=4.0,
    )["image"]
    workflow.add("PreviewImage", (LOADING, PICTURE_TOP + 370), (360, 340), "What the encoder sees", images=prepared)
    finish(workflow, loaded, FAMILY, "object", OBJECT, image=prepared)
    workflow.note(notes.OBJECT_CUT_OUT, (READING, 750), (820, 340))
    workflow.group("Reference and mask", PREPARING - 20, 10, 400, 1160)
    frames(workflow, load=1225)
    workflow.move_right(PREPARING_WIDTH)


def detail_tiles(workflow: Workflow) -> None:
    """Read a large picture in tiles, for the detail of its style."""
    loaded = load(workflow, FAMILY)
    pos = (LOADING, PICTURE_TOP + 470)
    tiles = workflow.add("IPAdapterInstructTile", pos, (360, 150), image=loaded.picture["IMAGE"])
    finish(workflow, loaded, FAMILY, "style", image=tiles["image"])
    workflow.note(notes.DETAIL_TILES, (READING, 750), (820, 300))
    frames(workflow, load=1140)


def stored_embeds(workflow: Workflow) -> None:
    """Keep what was encoded in a file, and read a picture's states by another instruction."""
    loaded = load(workflow, FAMILY)
    encoded = finish(workflow, loaded, FAMILY, "style")
    workflow.add("IPAdapterInstructSaveEmbeds", (READING, BELOW_ENCODE), (400, 90), embeds=encoded["embeds"])
    top = 1090
    row = reference(workflow, (READING, top + 160), clip_vision_output=states_of(workflow, loaded, top))
    other = encode(workflow, loaded, "colour", PROMPTS["colour"], (APPLYING, top), 360, references=row)
    workflow.add(
        "IPAdapterInstructSaveEmbeds",
        (SAMPLING, top),
        (320, 90),
        embeds=other["embeds"],
        filename_prefix="embeds/colour",
    )
    workflow.note(notes.STORED_EMBEDS, (SAVING, 740), (400, 560))
    frames(workflow)
    workflow.group("The picture as the encoder saw it, read by another instruction", 20, top - 80, 1660, 660)


def states_of(workflow: Workflow, loaded: Loaded, top: int) -> Output:
    """A picture as the image encoder saw it, by ComfyUI's own nodes."""
    encoder = workflow.add("CLIPVisionLoader", (LOADING, top), (360, 60), models=[ENCODER], clip_name=ENCODER["name"])
    node = workflow.add(
        "CLIPVisionEncode",
        (READING, top),
        (400, 100),
        clip_vision=encoder["CLIP_VISION"],
        image=loaded.picture["IMAGE"],
        crop="center",
    )
    return node["CLIP_VISION_OUTPUT"]
