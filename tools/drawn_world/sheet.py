"""One picture of the drawn world and six instructions, as a workflow for ComfyUI's page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from shipped.parts import APPLYING, LOADING, READING, SAVING, TOP, InstructWorkflow

from drawn_world.files import CHECKPOINT, TEXT_ENCODER
from drawn_world.scenes.drawing import draw
from drawn_world.scenes.scene import SIDE, TASKS, Scene
from drawn_world.scenes.words import CAPTIONED, PLAIN, plain_caption

REFERENCE = Scene(("chick",), "glossy", "orange", ("middle",), "pink")
PROMPT = Scene(("tractor",), "pictogram", "red", ("left",), "checks")
REFERENCE_FILE = "drawn_world_reference.png"
HOW = {"steps": 20, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
WEIGHT = 1.0
CELL, ROW = 288, 620
TITLES = {  # of nodes that `cli.py pairs` looks for
    "LoadImage": "Picture",
    "IPAdapterInstructEncode": "Prompt",
    "KSampler": "Seed",
    "PreviewImage": "Target",
}
NOTE = """## A world of real drawings

A picture, and a prompt that tells another one, but for what the instruction asks for. The instruction says what \
crosses over from the picture: **the style**, that is the set that it is drawn in; **the object**; **the colour**; \
**the composition**, its place and size; **the background**; or **everything**.

Base model, autoencoder, encoders and adapter were trained from nothing on drawings that people made, in hours on a \
processor. Try other words in **prompt** and **instruction**: pictogram, cartoon, glossy, flat, shaded; red, orange, \
green, blue, purple; apple, bee, cat, crown, dolphin, fire, ghost, heart, lemon, moon, pig, rocket, skull, turtle; \
in the middle, on the left, at the upper right; on white, sky, pink, yellow, mint, stripes, dots, checks."""


def loaded(object_info: Mapping[str, dict], adapter: str, encoder: str = "") -> tuple[InstructWorkflow, dict]:
    """A workflow with the world's models, and the image and the latent that all of its samplings share.

    encoder: an image encoder's file of any depth; "": the one that the adapter's loader finds.
    """
    workflow = InstructWorkflow("drawn_world", object_info)
    workflow.loaded |= workflow.add("CheckpointLoaderSimple", (LOADING, TOP), (360, 110), ckpt_name=CHECKPOINT)
    text_encoder = {"clip_name": TEXT_ENCODER, "type": "sd3", "device": "default"}
    workflow.loaded |= workflow.add("CLIPLoader", (LOADING, TOP + 160), (360, 130), **text_encoder)
    named: dict = {"adapter_name": adapter}
    if encoder:
        where = (LOADING - 420, TOP)
        named["clip_vision"] = workflow.add("IPAdapterInstructOpenClip", where, (360, 130), image_encoder=encoder)
    workflow.loaded |= workflow.add("IPAdapterInstructLoader", (LOADING, TOP + 340), (360, 190), **named)
    image = workflow.add("LoadImage", (LOADING, TOP + 585), (360, 400), title="The picture", image=REFERENCE_FILE)
    latent = workflow.add("EmptySD3LatentImage", (LOADING, TOP + 1045), (360, 130), width=SIDE, height=SIDE)
    return workflow, {"image": image, "latent": latent}


def sampled(workflow: InstructWorkflow, shared: dict, instruction: str, prompt: str, top: int):
    """Encode, apply, sample and decode in a row; return the node that has the picture."""
    texts = {"task": "own words", "instruction": instruction, "prompt": prompt, "negative_prompt": ""}
    encoded = workflow.add("IPAdapterInstructEncode", (READING, top), (400, 500), image=shared["image"], **texts)
    how = {"weight": WEIGHT, "guidance": "simple"}
    applied = workflow.add("IPAdapterInstructApply", (APPLYING, top), (360, 370), embeds=encoded, **how)
    return workflow.sample(applied, encoded, shared["latent"], top, **HOW)


def single(object_info: Mapping[str, dict], adapter: str, encoder: str) -> dict:
    """A workflow of one instruction, for `cli.py evaluate`."""
    workflow, shared = loaded(object_info, adapter, encoder)
    workflow.save(sampled(workflow, shared, PLAIN["style"], prompt_of("style"), TOP))
    return workflow.saved()


def pairs_workflow(task: str, object_info: Mapping[str, dict], adapter: str, encoder: str) -> dict:
    """A workflow that draws a prompt with what a task takes from a picture; its titles are for `cli.py`.

    For the background the adapter is shown what stays: the thing is cut out, as in the shipped recipe.
    """
    workflow, shared = loaded(object_info, adapter, encoder)
    if task == "background":
        masked = {"image": REFERENCE_FILE, "channel": "red"}
        mask = workflow.add("LoadImageMask", (LOADING - 420, TOP + 585), (360, 400), "Mask", **masked)
        cut = {"image": shared["image"], "mask": mask, "action": "cut out", "invert": True}
        where = (LOADING - 420, TOP + 200)
        shared["image"] = workflow.add("IPAdapterInstructPrepare", where, (360, 310), "Invert", **cut)
    decoded = sampled(workflow, shared, PLAIN[task], prompt_of(task), TOP)
    workflow.add("PreviewImage", (SAVING, TOP), (400, 460), images=decoded)
    saved = workflow.saved()
    for node in saved["nodes"]:
        node["title"] = TITLES.get(node["type"]) or node.get("title", "")
    return saved


def workflow_of(object_info: Mapping[str, dict], adapter: str) -> dict:
    """The sheet's workflow as ComfyUI's page saves it, made of what a server says of its nodes."""
    workflow, shared = loaded(object_info, adapter)
    pictures = shared["image"]
    for row, task in enumerate(TASKS):
        top = TOP + ROW * row
        decoded = sampled(workflow, shared, PLAIN[task], prompt_of(task), top)
        pictures = workflow.batch(pictures, decoded, (SAVING, top), 320)
    left = SAVING + 400
    enlarging = {"upscale_method": "nearest-exact", "width": CELL, "height": CELL, "crop": "center"}
    larger = workflow.add("ImageScale", (left, TOP), (320, 170), image=pictures, **enlarging)
    labelled = workflow.add(
        "IPAdapterInstructLabelGrid", (left, TOP + 220), (320, 400), images=larger, column_labels="\n".join(labels())
    )
    prefix = {"filename_prefix": "IPAdapter-Instruct-sheet"}
    workflow.add("SaveImage", (left + 360, TOP), (900, 420), images=labelled["grid"], **prefix)
    workflow.group("Lay out and save", left - 20, 10, 1300, 720)
    workflow.note(NOTE, (LOADING, TOP + 1225), (360, 620))
    workflow.group("Load", 20, 10, 400, 1950)
    frame = ROW * len(TASKS) + 60
    workflow.group("An instruction a row, and a prompt that leaves out what it asks for", 440, 10, 1660, frame)
    return workflow.saved()


def labels() -> list[str]:
    """The words above the sheet's columns."""
    prompts = {task: f'"{prompt_of(task)}"' if prompt_of(task) else "no prompt" for task in TASKS}
    return ["the picture", *(f"{PLAIN[task]}: {prompts[task]}" for task in TASKS)]


def prompt_of(task: str) -> str:
    """The prompt's scene in words, without what the task takes from the picture."""
    return plain_caption(PROMPT, [name for name in CAPTIONED if name not in TASKS[task]])


def write_picture(scene: Scene, path: Path) -> None:
    Image.fromarray((draw(scene) * 255).round().astype("uint8")).save(path)


def write_reference(path: Path) -> None:
    write_picture(REFERENCE, path)
