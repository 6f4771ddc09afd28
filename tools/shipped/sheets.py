"""One picture and one prompt, five instructions: a sheet on which the picture itself comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    Sampling,
    empty_latent,
    load,
    recommended,
)

FAMILY = "sd15"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256


@dataclass(frozen=True)
class Loaded:
    """What the sheet is made from."""

    model: Output
    clip: Output
    vae: Output
    adapter: Output
    image: Output


@dataclass(frozen=True)
class Question:
    """What is asked of the picture, and how it is sampled. enlarge: the way in which cells are made larger."""

    instructions: Sequence[str]
    prompt: str
    negative_prompt: str
    how: Sampling
    cfg: float
    weight: float
    guidance: str = "auto"
    enlarge: str = "lanczos"
    seed: int = SEED


def five_instructions(workflow: Workflow) -> None:
    """The sheet with the published files of SD1.5."""
    loaded = load(workflow, FAMILY)
    settings = recommended(FAMILY, "style")
    parts = Loaded(
        loaded.checkpoint["MODEL"],
        loaded.checkpoint["CLIP"],
        loaded.checkpoint["VAE"],
        loaded.adapter["adapter"],
        loaded.picture["IMAGE"],
    )
    question = Question(INSTRUCTIONS, *PROMPTS["style"], SAMPLINGS[FAMILY], settings.cfg, settings.weight)
    sheet(workflow, parts, question, control_notes.FIVE_INSTRUCTIONS)
    workflow.group("Load", 20, 10, 400, 900)


def sheet(workflow: Workflow, given: Loaded, asked: Question, note: str) -> None:
    """Everything right of the loaders."""
    how = asked.how
    latent = empty_latent(workflow, how, (READING, TOP))
    cells = workflow.add(
        "IPAdapterInstructGrid",
        (APPLYING, TOP),
        (400, 940),
        model=given.model,
        adapter=given.adapter,
        clip=given.clip,
        vae=given.vae,
        image=given.image,
        latent=latent,
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        weight=asked.weight,
        guidance=asked.guidance,
        seed=asked.seed,
        steps=how.steps,
        cfg=asked.cfg,
        sampler_name=how.sampler,
        scheduler=how.scheduler,
        rows="nothing",
        columns="instruction",
        column_values="\n".join(asked.instructions),
    )
    left = SAMPLING + 20
    reference = scaled(workflow, given.image, asked.enlarge, TOP, "The picture")
    others = scaled(workflow, cells["images"], asked.enlarge, TOP + 220, "What came of it")
    together = workflow.add("ImageBatch", (left, TOP + 440), (320, 60), image1=reference, image2=others)
    labelled = workflow.add(
        "IPAdapterInstructLabelGrid",
        (left, TOP + 560),
        (320, 300),
        images=together["IMAGE"],
        row_labels=f"prompt: {asked.prompt}",
        column_labels="\n".join(["the picture", *asked.instructions]),
    )
    workflow.add(
        "SaveImage", (SAVING, TOP), (860, 420), images=labelled["grid"], filename_prefix="IPAdapter-Instruct-sheet"
    )
    workflow.note(note, (READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)


def scaled(workflow: Workflow, image: Output, method: str, top: int, title: str) -> Output:
    """As large as a cell of the sheet."""
    node = workflow.add(
        "ImageScale",
        (SAMPLING + 20, top),
        (320, 170),
        title=title,
        image=image,
        upscale_method=method,
        width=CELL,
        height=CELL,
        crop="center",
    )
    return node["IMAGE"]
