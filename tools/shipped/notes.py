"""The words on the workflows' notes, in Markdown."""

from __future__ import annotations

from comfyhost.pack import pack_module

from shipped.files import ADAPTERS, CHECKPOINTS, CONTROLNET, ENCODER, LORA

families = pack_module("models.families")
tasks = pack_module("models.tasks")

CHECKPOINT_REMARKS = {
    "sd15": ", or any SD1.5 model",
    "sdxl": ", or any SDXL model (the refiner is none)",
    "sd3": (
        ". Its [page](https://huggingface.co/stabilityai/stable-diffusion-3-medium) hands it out once you have "
        "logged in and accepted the licence. T5 is not needed."
    ),
}
FAMILY_REMARKS = {
    "sd15": "For composition and pose **auto** takes 0.2 off the weight.",
    "sdxl": (
        "An **image_guidance** of 1 saves one pass of four a step. For the composition they also lower the weight to "
        "0.7 at times."
    ),
    "sd3": 'Here "use the face" is guided three ways.',
}
TAKES = {
    "everything": "takes the whole picture: a variation that the prompt steers.",
    "style": "takes brush, light and rendering. What is shown comes from the prompt.",
    "colour": "takes the palette and leaves the rest to the prompt.",
    "pose": "takes how a figure stands or sits, without the figure.",
    "composition": "takes where things are, without the things. It is the weakest task: try several seeds.",
    "face": "takes a person's features into another scene. Use a picture in which the face is large.",
    "foreground": "takes what is in front (beta) and sets it in the prompt's surroundings.",
    "background": "takes the surroundings (beta) and puts the prompt's subject there.",
    "object": (
        "takes one object: name it in the instruction, and in the prompt. It works strikingly better when the "
        "object is cut out on a plain coloured background."
    ),
}


def file_line(file: dict, remark: str = "") -> str:
    return f"- models/{file['directory']}: [{file['name']}]({file['url']}){remark}"


def files(family: str, *more: dict) -> str:
    """The list of files that a workflow needs."""
    lines = [
        file_line(CHECKPOINTS[family], CHECKPOINT_REMARKS[family]),
        file_line(ADAPTERS[family]),
        file_line(ENCODER),
        *map(file_line, more),
    ]
    return "\n".join(["**Files**", "", *lines])


def instructions(family: str) -> str:
    """The instructions that a family was trained on, as a list."""
    return "\n".join(f"- {task.instruction}" for task in tasks.trained_tasks(family_named(family)))


def family_named(name: str):
    return next(family for family in families.FAMILIES if family.name == name)


def family_note(name: str) -> str:
    """What to try with a family's plain workflow."""
    family = family_named(name)
    usual = family.settings
    other = [
        f" ({scale:g} for the {task.name})"
        for names, scale in family.stronger_tasks
        for task in tasks.trained_tasks(family)
        if task.name in names
    ]
    return "\n\n".join(
        [
            f"## IPAdapter-Instruct, {family.title}",
            "Choose a **task** in the list, or say in **instruction** what to take from the picture:",
            instructions(name),
            "Then say in **prompt** what the new picture shows.",
            "**Apply** chooses the guidance for the instruction (auto) and shows what it chose. In *three-way* "
            "guidance, raise **instruct_guidance** when the prompt is not followed; **cfg** then acts on how the "
            "picture is read.",
            f"**Settings of the authors**: weight {usual.weight:g}, cfg {usual.cfg:g}, "
            f"**instruct_guidance** {usual.instruct_guidance:g}{''.join(other)}, "
            f"**image_guidance** {usual.image_guidance:g}. {FAMILY_REMARKS[name]}",
            files(name),
        ]
    )


def task_note(task) -> str:
    """What to try with a task's workflow, SD1.5."""
    family = family_named("sd15")
    advice = tasks.advise(family, task.instruction)
    weight = family.settings.weight + advice.weight_change
    return "\n\n".join(
        [
            f"## Take the {task.name}" if task.name != "everything" else "## Take everything",
            f'"{task.instruction}" {TAKES[task.name]}',
            f"**auto** guides it **{advice.guidance}**, with weight {weight:g}. {STRONGER[advice.guidance]}",
            "Too much of the picture: lower the weight to 0.6, or end_percent to 0.7. Too little: raise it to 1.",
            files("sd15"),
        ]
    )


STRONGER = {
    tasks.SIMPLE: "To follow the prompt more closely, raise **cfg**.",
    tasks.THREE_WAY: "To follow the prompt more closely, raise **instruct_guidance**, not **cfg**.",
}
STYLE_AND_COMPOSITION = f"""## Two pictures, two instructions

The upper one gives the composition, the lower one the style. Each *Apply* adds its picture; the order does not matter.

The composition is guided three ways and sets the scales: raise its **instruct_guidance** to follow the prompt.

Balance them by their weights.

{files("sd15")}"""
WITH_CONTROLNET = f"""## With a ControlNet

The style comes from one picture, the outlines from another. A ControlNet goes where it always goes: between \
*Encode*'s positive and negative and the sampler.

Lower the ControlNet's end_percent to leave the details to the style.

{files("sd15", CONTROLNET)}"""
WITH_LORA = f"""## With a LoRA

LoRAs go before *Apply* or behind it. This one makes a picture in eight steps, at a cfg of 5 to 8.

*Encode* takes the checkpoint's own CLIP, as the adapter was trained with it. For a LoRA with words of its own, \
connect the LoRA's CLIP to **clip**, and the checkpoint's to **instruct_clip**.

{files("sd15", LORA)}"""
IMAGE_TO_IMAGE = f"""## A picture in the style of another

**denoise** says how much of the picture is made anew: 0.4 keeps most of it, 0.8 little more than the layout.

Describe in the prompt what the picture shows, without its style.

{files("sd15")}"""
INPAINTING = f"""## A face from another picture

Only what the mask covers is made anew: here a square. To draw your own, right click the picture to change, *Open in \
MaskEditor*, and connect its MASK to *Set Latent Noise Mask*.

Any task will do; for objects, "use the object, a vase".

{files("sd15")}"""
SAMPLER_CUSTOM_ADVANCED = f"""## The sampler in parts

*Apply* works with every sampler and guider. Here noise, guider, sampler and sigmas are nodes of their own. Connect \
the same model to *CFGGuider* and *BasicScheduler*.

{files("sd15")}"""
