"""The workflows with adapters that take no instruction."""

from __future__ import annotations

from shipped import notes
from shipped.files import ENCODER, FACE_ID, PLAIN, PLUS
from shipped.graph import Output, Workflow
from shipped.parts import (
    APPLYING,
    LOADING,
    NEGATIVE,
    PROMPTS,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    TOP,
    Loaded,
    apply,
    empty_latent,
    encode,
    finish_below,
    load,
    load_adapter,
    load_checkpoint,
    picture,
    reference,
    sample_and_decode,
)
from shipped.sheets import labelled

FAMILY, TASK = "sd15", "style"
ROW = 560  # from one adapter's nodes to the next one's
FACE_PROMPT = "portrait of a person as an astronaut, studio light, detailed"
FACE_PREFIX = "faces/face"
FACE_FILE = f"{FACE_PREFIX}_00001_.face.safetensors [output]"
MUTED = 2


def compare_adapters(workflow: Workflow) -> None:
    """Put one picture through a base IP-Adapter, a Plus and IPAdapter-Instruct, side by side on one sheet."""
    first = load(workflow, FAMILY)
    latent = empty_latent(workflow, FAMILY, (LOADING, TOP + 865))
    others = [
        Loaded(first.checkpoint, load_adapter(workflow, file, ENCODER, top=TOP + top), first.picture)
        for file, top in ((PLAIN, 1055), (PLUS, 1305))
    ]
    images = [one_adapter(workflow, loaded, latent, number) for number, loaded in enumerate((*others, first))]
    together = images[0]
    for number, image in enumerate(images[1:]):
        pos = (SAVING, TOP + 110 * number)
        together = workflow.add("ImageBatch", pos, (400, 60), image1=together, image2=image)["IMAGE"]
    sheet = labelled(workflow, together, (SAVING, TOP + 220), ["IP-Adapter", "IP-Adapter Plus", "IPAdapter-Instruct"])
    workflow.add("SaveImage", (SAVING, 620), (700, 380), images=sheet, filename_prefix="IPAdapter-Instruct-compared")
    workflow.note(notes.COMPARE_ADAPTERS, (SAVING, 1080), (700, 420))
    workflow.group("Load", 20, 10, 400, 1600)
    workflow.group("IP-Adapter, Plus and Instruct: the same nodes", 440, 10, 1240, 3 * ROW + 20)
    workflow.group("Side by side", 1700, 10, 740, 1010)


def one_adapter(workflow: Workflow, loaded: Loaded, latent: Output, number: int) -> Output:
    """Encode, apply, sample and decode; return the picture."""
    top = TOP + ROW * number
    encoded = encode(workflow, loaded, TASK, PROMPTS[TASK], pos=(READING, top))
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, TASK, pos=(APPLYING, top))
    return sample_and_decode(workflow, FAMILY, loaded, model, encoded, latent, top)


def faceid_embeddings(workflow: Workflow) -> None:
    """Take a face from a file of its embedding; and show, muted, how such a file is made of a photo."""
    loaded = Loaded(load_checkpoint(workflow, FAMILY), load_adapter(workflow, FACE_ID))
    face = workflow.add("IPAdapterInstructLoadFace", (LOADING, TOP + 410), (360, 80), file=FACE_FILE)["face"]
    row = reference(workflow, (READING, TOP), face=face)
    finish_below(workflow, loaded, "face", (FACE_PROMPT, NEGATIVE), row)
    read_from_a_photo(workflow)
    workflow.note(notes.FACE_ID_EMBEDDINGS, (SAMPLING, 740), (780, 460))
    workflow.group("Load", 20, 10, 400, 600)
    workflow.group("The face", 440, 10, 860, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)
    workflow.group("Once: a photo's face into a file (needs insightface; select, Ctrl+M)", 20, 1170, 1280, 530)


def read_from_a_photo(workflow: Workflow) -> None:
    """Add a photo, its face and a file of it, muted, so that the workflow runs without insightface."""
    first, top = len(workflow.nodes), 1260
    photo = picture(workflow, (LOADING, top), "Photo")
    read = workflow.add(
        "IPAdapterInstructReadFace", (READING, top), (400, 290), image=photo["IMAGE"], save_as=FACE_PREFIX
    )
    workflow.add("PreviewImage", (APPLYING, top), (360, 290), images=read["crop"])
    for node in workflow.nodes[first:]:
        node["mode"] = MUTED
