"""The workflows that end in a sheet of Instruct Grid's, and what sheets have in common."""

from __future__ import annotations

from shipped.columns import APPLYING, LOAD_HEIGHT, READING, SAMPLING, SAVING, TOP
from shipped.graph import Node, Output
from shipped.parts import PROMPTS, SAMPLERS, SEED, InstructWorkflow

TASK = "style"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256
LEFT = SAMPLING + 20


def grid(workflow: InstructWorkflow) -> None:
    """Compare three instructions by three weights."""
    workflow.load()
    rows = {"rows": "instruction", "row_values": "use the style\nuse the colour\nuse everything"}
    cells = instruct_grid(workflow, **rows, columns="weight", column_values="0.4, 0.7, 1")
    workflow.add("SaveImage", (LEFT, TOP), (760, 940), images=cells["grid"], filename_prefix="Instruct-Grid")
    workflow.explain((READING, 280), (400, 560))
    workflow.group("Load", 20, 10, 400, 1040)
    workflow.group("Every row by every column", 440, 10, 900, 1040)
    workflow.group("Save", SAMPLING + 10, 10, 790, 1040)


def five_instructions(workflow: InstructWorkflow) -> None:
    """Put one picture and one prompt through five instructions; on the sheet the picture itself comes first."""
    workflow.load()
    cells = instruct_grid(workflow, rows="nothing", columns="instruction", column_values="\n".join(INSTRUCTIONS))
    shown = workflow.square(workflow.picture, CELL, (LEFT, TOP), "The picture", 320)
    others = workflow.square(cells["images"], CELL, (LEFT, TOP + 220), "What came of it", 320)
    together = workflow.batch(shown, others, (LEFT, TOP + 440), 320)
    columns = ["the picture", *INSTRUCTIONS]
    sheet = labelled(workflow, together, (LEFT, TOP + 560), columns, f"prompt: {PROMPTS[TASK][0]}")
    workflow.add("SaveImage", (SAVING, TOP), (860, 420), images=sheet, filename_prefix="IPAdapter-Instruct-sheet")
    workflow.explain((READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)
    workflow.group("Load", 20, 10, 400, LOAD_HEIGHT)


def instruct_grid(workflow: InstructWorkflow, **axes: str) -> Node:
    """Add Instruct Grid, set as the authors do. axes: rows, row_values, columns, column_values."""
    prompt, negative = PROMPTS[TASK]
    return workflow.add(
        "IPAdapterInstructGrid",
        (APPLYING, TOP),
        (400, 940),
        model=workflow.checkpoint["MODEL"],
        adapter=workflow.adapter["adapter"],
        clip=workflow.checkpoint["CLIP"],
        vae=workflow.checkpoint["VAE"],
        image=workflow.picture,
        latent=workflow.empty_latent((READING, TOP)),
        prompt=prompt,
        negative_prompt=negative,
        weight=workflow.settings.weight,
        seed=SEED,
        cfg=workflow.settings.cfg,
        **SAMPLERS[workflow.family],
        **axes,
    )


def labelled(
    workflow: InstructWorkflow, pictures: Output, pos: tuple[int, int], columns: list[str], rows: str = ""
) -> Output:
    """Add Instruct Label Grid and return the sheet."""
    labels = {"row_labels": rows, "column_labels": "\n".join(columns)}
    return workflow.add("IPAdapterInstructLabelGrid", pos, (320, 260), images=pictures, **labels)["grid"]


BUILDERS = (grid, five_instructions)
