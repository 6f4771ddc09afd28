"""The workflows that show how a picture is read: prepared for the encoder, told what to leave, stored."""

from __future__ import annotations

from shipped import notes
from shipped.files import ENCODER
from shipped.graph import Node, Output, Workflow
from shipped.parts import (
    APPLYING,
    LOADING,
    OBJECT,
    PREPARING,
    PREPARING_WIDTH,
    PROMPTS,
    READING,
    SAMPLING,
    SAVING,
    TOP,
    Loaded,
    encode,
    finish,
    frames,
    load,
    one_reference,
)

FAMILY = "sd15"


def negative_instruction(workflow: Workflow) -> None:
    """Say what to take from the picture, and what to leave behind."""
    one_reference(
        workflow,
        FAMILY,
        "style",
        "use the style",
        notes.NEGATIVE_INSTRUCTION,
        320,
        negative_instruction="use the composition",
    )


def object_cut_out(workflow: Workflow) -> None:
    """Show an object on a plain colour, and large."""
    loaded = load(workflow, FAMILY, pos=(PREPARING, TOP))
    squared = cut_out(workflow, loaded.picture["IMAGE"], square(workflow))
    encoded = encode(workflow, loaded, OBJECT, PROMPTS["object"], image=squared)
    finish(workflow, loaded, encoded, FAMILY, "object")
    workflow.note(notes.OBJECT_CUT_OUT, (READING, 750), (820, 340))
    workflow.group("Reference and mask", PREPARING - 20, 10, 400, 1160)
    frames(workflow, 1230)
    workflow.move_right(PREPARING_WIDTH)


def square(workflow: Workflow) -> Output:
    """A mask with a white square in it."""
    outside = workflow.add("SolidMask", (PREPARING, 600), (360, 130), "Leave this", value=0.0, width=512, height=512)
    inside = workflow.add("SolidMask", (PREPARING, 780), (360, 130), "Keep this", width=256, height=256)
    mask = workflow.add(
        "MaskComposite",
        (PREPARING, 960),
        (360, 180),
        "Instead of a mask drawn by hand",
        destination=outside["MASK"],
        source=inside["MASK"],
        x=128,
        y=64,
        operation="add",
    )
    return mask["MASK"]


def cut_out(workflow: Workflow, image: Output, mask: Output) -> Output:
    """Return what the mask keeps, on a colour, in a square around it, which is shown."""
    cut = workflow.add(
        "IPAdapterInstructCutOut", (LOADING, 430), (360, 230), image=image, mask=mask, seed=1, feather=4.0
    )
    around = workflow.add(
        "IPAdapterInstructCropAround", (LOADING, 710), (360, 110), image=cut["image"], mask=cut["mask"]
    )
    workflow.add("PreviewImage", (LOADING, 870), (360, 340), "What the encoder sees", images=around["image"])
    return around["image"]


def detail_tiles(workflow: Workflow) -> None:
    """Read a large picture in tiles, for the detail of its style."""
    loaded = load(workflow, FAMILY)
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, 940), (360, 150), image=loaded.picture["IMAGE"])
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"], image=tiles["image"])
    finish(workflow, loaded, encoded, FAMILY, "style")
    workflow.note(notes.DETAIL_TILES, (READING, 750), (820, 300))
    frames(workflow, 1110)


def stored_embeds(workflow: Workflow) -> None:
    """Keep what was encoded in a file, and read a picture's states by another instruction."""
    loaded = load(workflow, FAMILY)
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"])
    workflow.add("IPAdapterInstructSaveEmbeds", (READING, 650), (400, 90), embeds=encoded["embeds"])
    finish(workflow, loaded, encoded, FAMILY, "style")
    states = picture_states(workflow, loaded)
    prompt, negative = PROMPTS["colour"]
    other = workflow.add(
        "IPAdapterInstructEncodeStored",
        (APPLYING, 1020),
        (360, 480),
        adapter=loaded.adapter["adapter"],
        clip=loaded.checkpoint["CLIP"],
        clip_vision_output=states,
        instruction="use the colour",
        prompt=prompt,
        negative_prompt=negative,
    )
    workflow.add(
        "IPAdapterInstructSaveEmbeds",
        (SAMPLING, 1020),
        (320, 90),
        embeds=other["embeds"],
        filename_prefix="embeds/colour",
    )
    workflow.note(notes.STORED_EMBEDS, (SAVING, 740), (400, 560))
    frames(workflow, height=790)
    workflow.groups[2]["bounding"][3] = 680
    workflow.group("The picture as the encoder saw it, read by another instruction", 20, 940, 1660, 590)


def picture_states(workflow: Workflow, loaded: Loaded) -> Output:
    """A picture as the image encoder saw it, by ComfyUI's own nodes."""
    encoder = workflow.add("CLIPVisionLoader", (LOADING, 1020), (360, 60), models=[ENCODER], clip_name=ENCODER["name"])
    node: Node = workflow.add(
        "CLIPVisionEncode",
        (READING, 1020),
        (400, 100),
        clip_vision=encoder["CLIP_VISION"],
        image=loaded.picture["IMAGE"],
        crop="center",
    )
    return node["CLIP_VISION_OUTPUT"]
