"""One picture and one prompt, five instructions: a sheet on which the picture itself comes first."""

from __future__ import annotations

from shipped import control_notes
from shipped.graph import Output, Workflow
from shipped.parts import (
    APPLYING,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    SEED,
    TOP,
    empty_latent,
    load,
    recommended,
)

FAMILY, TASK = "sd15", "style"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256
LEFT = SAMPLING + 20


def five_instructions(workflow: Workflow) -> None:
    """Make the cells by Instruct Grid, with the picture before them."""
    loaded, how, settings = load(workflow, FAMILY), SAMPLINGS[FAMILY], recommended(FAMILY, TASK)
    prompt, negative = PROMPTS[TASK]
    latent = empty_latent(workflow, how, (READING, TOP))
    cells = workflow.add(
        "IPAdapterInstructGrid",
        (APPLYING, TOP),
        (400, 940),
        model=loaded.checkpoint["MODEL"],
        adapter=loaded.adapter["adapter"],
        clip=loaded.checkpoint["CLIP"],
        vae=loaded.checkpoint["VAE"],
        image=loaded.picture["IMAGE"],
        latent=latent,
        prompt=prompt,
        negative_prompt=negative,
        weight=settings.weight,
        seed=SEED,
        steps=how.steps,
        cfg=settings.cfg,
        sampler_name=how.sampler,
        scheduler=how.scheduler,
        rows="nothing",
        columns="instruction",
        column_values="\n".join(INSTRUCTIONS),
    )
    reference = scaled(workflow, loaded.picture["IMAGE"], TOP, "The picture")
    others = scaled(workflow, cells["images"], TOP + 220, "What came of it")
    together = workflow.add("ImageBatch", (LEFT, TOP + 440), (320, 60), image1=reference, image2=others)
    labelled = workflow.add(
        "IPAdapterInstructLabelGrid",
        (LEFT, TOP + 560),
        (320, 300),
        images=together["IMAGE"],
        row_labels=f"prompt: {prompt}",
        column_labels="\n".join(["the picture", *INSTRUCTIONS]),
    )
    workflow.add(
        "SaveImage", (SAVING, TOP), (860, 420), images=labelled["grid"], filename_prefix="IPAdapter-Instruct-sheet"
    )
    workflow.note(control_notes.FIVE_INSTRUCTIONS, (READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)
    workflow.group("Load", 20, 10, 400, 900)


def scaled(workflow: Workflow, image: Output, top: int, title: str) -> Output:
    """Return the picture as large as a cell of the sheet."""
    node = workflow.add(
        "ImageScale",
        (LEFT, top),
        (320, 170),
        title=title,
        image=image,
        upscale_method="lanczos",
        width=CELL,
        height=CELL,
        crop="center",
    )
    return node["IMAGE"]
