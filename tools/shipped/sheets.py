"""The workflows that end in a sheet of Instruct Grid's, and what sheets have in common."""

from __future__ import annotations

from shipped import control_notes
from shipped.graph import Node, Output, Workflow
from shipped.parts import (
    APPLYING,
    LOAD_HEIGHT,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    SEED,
    TOP,
    Loaded,
    empty_latent,
    load,
    recommended,
    scaled,
)

FAMILY, TASK = "sd15", "style"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256
LEFT = SAMPLING + 20


def grid(workflow: Workflow) -> None:
    """Compare three instructions by three weights."""
    cells = instruct_grid(
        workflow,
        load(workflow, FAMILY),
        rows="instruction",
        row_values="use the style\nuse the colour\nuse everything",
        columns="weight",
        column_values="0.4, 0.7, 1",
    )
    workflow.add("SaveImage", (SAMPLING + 20, TOP), (760, 940), images=cells["grid"], filename_prefix="Instruct-Grid")
    workflow.note(control_notes.GRID, (READING, 280), (400, 560))
    workflow.group("Load", 20, 10, 400, 1040)
    workflow.group("Every row by every column", 440, 10, 900, 1040)
    workflow.group("Save", SAMPLING + 10, 10, 790, 1040)


def five_instructions(workflow: Workflow) -> None:
    """Put one picture and one prompt through five instructions; on the sheet the picture itself comes first."""
    loaded = load(workflow, FAMILY)
    axes = {"rows": "nothing", "columns": "instruction", "column_values": "\n".join(INSTRUCTIONS)}
    cells = instruct_grid(workflow, loaded, **axes)
    shown = scaled(workflow, loaded.picture["IMAGE"], CELL, (LEFT, TOP), "The picture", 320)
    others = scaled(workflow, cells["images"], CELL, (LEFT, TOP + 220), "What came of it", 320)
    together = workflow.add("ImageBatch", (LEFT, TOP + 440), (320, 60), image1=shown, image2=others)["IMAGE"]
    columns = ["the picture", *INSTRUCTIONS]
    sheet = labelled(workflow, together, (LEFT, TOP + 560), columns, f"prompt: {PROMPTS[TASK][0]}")
    workflow.add("SaveImage", (SAVING, TOP), (860, 420), images=sheet, filename_prefix="IPAdapter-Instruct-sheet")
    workflow.note(control_notes.FIVE_INSTRUCTIONS, (READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)
    workflow.group("Load", 20, 10, 400, LOAD_HEIGHT)


def instruct_grid(workflow: Workflow, loaded: Loaded, **axes: str) -> Node:
    """Add Instruct Grid, with what is recommended for TASK. axes: rows, row_values, columns, column_values."""
    how, settings = SAMPLINGS[FAMILY], recommended(FAMILY, TASK)
    prompt, negative = PROMPTS[TASK]
    return workflow.add(
        "IPAdapterInstructGrid",
        (APPLYING, TOP),
        (400, 940),
        model=loaded.checkpoint["MODEL"],
        adapter=loaded.adapter["adapter"],
        clip=loaded.checkpoint["CLIP"],
        vae=loaded.checkpoint["VAE"],
        image=loaded.picture["IMAGE"],
        latent=empty_latent(workflow, FAMILY, (READING, TOP)),
        prompt=prompt,
        negative_prompt=negative,
        weight=settings.weight,
        seed=SEED,
        steps=how.steps,
        cfg=settings.cfg,
        sampler_name=how.sampler,
        scheduler=how.scheduler,
        **axes,
    )


def labelled(workflow: Workflow, pictures: Output, pos: tuple[int, int], columns: list[str], rows: str = "") -> Output:
    """Add Instruct Label Grid and return the sheet."""
    labels = {"row_labels": rows, "column_labels": "\n".join(columns)}
    return workflow.add("IPAdapterInstructLabelGrid", pos, (320, 260), images=pictures, **labels)["grid"]
