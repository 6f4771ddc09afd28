"""The workflow that trains an adapter on a new instruction."""

from __future__ import annotations

from shipped import notes
from shipped.files import ADAPTERS, ENCODER
from shipped.graph import Workflow
from shipped.parts import (
    LOADING,
    NEGATIVE,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    TOP,
    Loaded,
    finish_below,
    load_checkpoint,
    picture,
)

FAMILY = "sd15"
INSTRUCTION = "use the inverted look"
CAPTION = "a picture in inverted colours"
PAIRS = 8


def train_instruction(workflow: Workflow) -> None:
    """Train the published adapter on eight pairs cut from one picture; it then follows the new instruction."""
    checkpoint = load_checkpoint(workflow, FAMILY)
    source = picture(workflow, (LOADING, TOP + 160), "A picture to cut references from")
    tiles = workflow.add(
        "IPAdapterInstructTile",
        (LOADING, TOP + 610),
        (360, 170),
        image=source["IMAGE"],
        max_tiles=9,
        whole=False,
    )
    references = workflow.add(
        "ImageFromBatch", (LOADING, TOP + 830), (360, 110), "References", image=tiles["image"], length=PAIRS
    )
    targets = workflow.add("ImageInvert", (LOADING, TOP + 990), (360, 60), "Targets", image=references["IMAGE"])
    trained = workflow.add(
        "IPAdapterInstructTrain",
        (READING, TOP),
        (400, 640),
        models=[ADAPTERS[FAMILY], ENCODER],
        model=checkpoint["MODEL"],
        clip=checkpoint["CLIP"],
        vae=checkpoint["VAE"],
        references=references["IMAGE"],
        targets=targets["IMAGE"],
        instruction=INSTRUCTION,
        captions=CAPTION,
        initial_adapter=ADAPTERS[FAMILY]["name"],
        steps=200,
        batch_size=2,
        learning_rate=1e-5,
        filename_prefix="inverted",
    )
    workflow.add("PreviewImage", (READING, TOP + 700), (400, 320), "Loss", images=trained["loss_plot"])
    finish_below(workflow, Loaded(checkpoint, trained, source), INSTRUCTION, (CAPTION, NEGATIVE))
    workflow.note(notes.TRAIN_INSTRUCTION, (SAMPLING, 760), (780, 400))
    workflow.group("Load and pair", 20, 10, 400, 1180)
    workflow.group("Train", 440, 10, 440, 1120)
    workflow.group("Instruct", 900, 10, 400, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)
