"""One picture of the small world and five instructions, as a workflow for ComfyUI's page."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from shipped.graph import Source, Workflow
from shipped.parts import APPLYING, LOADING, READING, SAVING, TOP, InstructWorkflow

from small_world.captions import plain_caption
from small_world.drawing import SIDE, draw
from small_world.models import ADAPTER, CHECKPOINT, TEXT_ENCODER
from small_world.phrasings import PLAIN
from small_world.scenes import ATTRIBUTES, TASKS, Scene, Thing

REFERENCE = Scene((Thing("ring", "green", "bottom left", "small"),), "vertical stripes")
PROMPT = Scene((Thing("cross", "orange", "top right", "big"),), "checks")
REFERENCE_FILE = "small_world_reference.png"
HOW = {"steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple"}
WEIGHT = 1.0
CELL, ROW = 256, 620
NOTE = """## The small world

A picture of a drawn scene, and a prompt that tells another scene, but for what the instruction asks for. The \
instruction says what crosses over from the picture.

- **use the colour**: of the thing
- **use the composition**: where it is, and how big
- **use the object**: its shape
- **use the style**: the background's pattern
- **use everything from the image**

Model, autoencoder and adapter were trained from nothing on such scenes, in hours on a processor. Try other words in \
**prompt** and **instruction**: star, ring, circle, square, triangle, cross; red, orange, yellow, green, cyan, blue, \
purple; small, big; at the top left, ..., in the middle; on a background with dots, checks, diagonal stripes, \
or on a plain background."""


def workflow_of(object_info: Mapping[str, dict]) -> dict:
    """The workflow as ComfyUI's page saves it, of what a server says of its nodes."""
    workflow = InstructWorkflow("small_world", object_info)
    workflow.loaded |= workflow.add("CheckpointLoaderSimple", (LOADING, TOP), (360, 110), ckpt_name=CHECKPOINT)
    text_encoder = {"clip_name": TEXT_ENCODER, "type": "sd3", "device": "default"}
    workflow.loaded |= workflow.add("CLIPLoader", (LOADING, TOP + 160), (360, 130), **text_encoder)
    workflow.loaded |= workflow.add("IPAdapterInstructLoader", (LOADING, TOP + 340), (360, 190), adapter_name=ADAPTER)
    image = workflow.add("LoadImage", (LOADING, TOP + 585), (360, 400), title="The picture", image=REFERENCE_FILE)
    latent = workflow.add("EmptySD3LatentImage", (LOADING, TOP + 1045), (360, 130), width=SIDE, height=SIDE)
    together = image
    for row, task in enumerate(TASKS):
        top = TOP + ROW * row
        encoded = workflow.add(
            "IPAdapterInstructEncode",
            (READING, top),
            (400, 500),
            image=image,
            task="own words",
            instruction=PLAIN[task],
            prompt=prompt_of(task),
            negative_prompt="",
        )
        how = {"weight": WEIGHT, "guidance": "simple"}
        applied = workflow.add("IPAdapterInstructApply", (APPLYING, top), (360, 370), embeds=encoded, **how)
        decoded = workflow.sample(applied, encoded, latent, top, **HOW)
        together = workflow.batch(together, decoded, (SAVING, top), 320)
    lay_out(workflow, together)
    workflow.note(NOTE, (LOADING, TOP + 1225), (360, 620))
    workflow.group("Load", 20, 10, 400, 1950)
    workflow.group("An instruction a row, and a prompt that leaves out what it asks for", 440, 10, 1660, ROW * 5 + 60)
    return workflow.saved()


def lay_out(workflow: Workflow, pictures: Source) -> None:
    """The pictures, in the order of the tasks behind the reference, large enough to be looked at, with labels."""
    left = SAVING + 400
    larger = workflow.add(
        "ImageScale",
        (left, TOP),
        (320, 170),
        image=pictures,
        upscale_method="nearest-exact",
        width=CELL,
        height=CELL,
        crop="center",
    )
    labelled = workflow.add(
        "IPAdapterInstructLabelGrid",
        (left, TOP + 220),
        (320, 400),
        images=larger,
        column_labels="\n".join(labels()),
    )
    workflow.add(
        "SaveImage", (left + 360, TOP), (900, 420), images=labelled["grid"], filename_prefix="IPAdapter-Instruct-sheet"
    )
    workflow.group("Lay out and save", left - 20, 10, 1300, 720)


def labels() -> list[str]:
    """What stands above the sheet's columns."""
    return ["the picture", *(f"{PLAIN[task]} (prompt: {prompt_of(task)})" for task in TASKS)]


def prompt_of(task: str) -> str:
    """The prompt's scene in words, without what the task takes from the picture."""
    return plain_caption(PROMPT, [name for name in ATTRIBUTES if name not in TASKS[task]])


def write_reference(path: Path) -> None:
    """The reference picture as PNG."""
    pixels = draw(REFERENCE, random.Random("the sheet's reference"))
    Image.fromarray((pixels * 255).round().astype("uint8")).save(path)
