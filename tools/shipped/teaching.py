"""The workflow that teaches an adapter a new instruction."""

from __future__ import annotations

from shipped import notes
from shipped.files import ADAPTERS, ENCODER
from shipped.graph import Workflow
from shipped.parts import (
    APPLYING,
    LOADING,
    NEGATIVE,
    READING,
    SAMPLING,
    SAMPLINGS,
    TOP,
    apply,
    decode_and_save,
    empty_latent,
    load_checkpoint,
    picture,
    recommended,
    sample,
)

FAMILY = "sd15"
INSTRUCTION = "use the inverted look"
CAPTION = "a picture in inverted colours"
PAIRS = 8


def teach_instruction(workflow: Workflow) -> None:
    """Teach eight pairs cut from one picture to the published adapter, which then follows the new instruction."""
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
    taught = workflow.add(
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
        start=ADAPTERS[FAMILY]["name"],
        steps=200,
        batch=2,
        rate=1e-5,
        filename_prefix="inverted",
    )
    workflow.add("PreviewImage", (READING, TOP + 700), (400, 320), "Loss", images=taught["loss_plot"])
    encoded = workflow.add(
        "IPAdapterInstructEncode",
        (APPLYING, TOP),
        (360, 500),
        adapter=taught["adapter"],
        clip=checkpoint["CLIP"],
        image=source["IMAGE"],
        instruction=INSTRUCTION,
        prompt=CAPTION,
        negative_prompt=NEGATIVE,
    )
    model = apply(workflow, checkpoint["MODEL"], encoded, FAMILY, "style", (APPLYING, TOP + 560))["MODEL"]
    latent = empty_latent(workflow, SAMPLINGS[FAMILY], (APPLYING, TOP + 1000))
    how = SAMPLINGS[FAMILY]
    samples = sample(workflow, how, recommended(FAMILY, "style").cfg, model, encoded, latent)
    decode_and_save(workflow, samples, checkpoint["VAE"])
    workflow.note(notes.TEACH_INSTRUCTION, (SAMPLING, 760), (780, 400))
    workflow.group("Load and pair", 20, 10, 400, 1180)
    workflow.group("Teach", 440, 10, 440, 1120)
    workflow.group("Instruct", 900, 10, 400, 1260)
    workflow.group("Sample and save", 1320, 10, 820, 680)
