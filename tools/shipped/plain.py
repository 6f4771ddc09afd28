"""The workflows with adapters that take no instruction."""

from __future__ import annotations

from shipped import notes
from shipped.files import ENCODER, FACE_ID, PLAIN, PLUS
from shipped.graph import Node, Output, Workflow
from shipped.parts import (
    APPLYING,
    HEIGHTS,
    LOADING,
    NEGATIVE,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    TOP,
    Loaded,
    apply,
    empty_latent,
    encode,
    load,
    load_checkpoint,
    picture,
    recommended,
    sample,
    sample_and_save,
)

FAMILY, TASK = "sd15", "style"
ROW = 620  # from one adapter's nodes to the next one's
FACE_FILE = "faces/face_00001_.face.safetensors [output]"
MUTED = 2


def compare_adapters(workflow: Workflow) -> None:
    """Put one picture through a base IP-Adapter, a Plus and IPAdapter-Instruct, side by side on one sheet."""
    first = load(workflow, FAMILY)
    latent = empty_latent(workflow, SAMPLINGS[FAMILY], (LOADING, TOP + 800))
    adapters = [
        Loaded(first.checkpoint, adapter(workflow, file, number), first.picture)
        for number, file in enumerate((PLAIN, PLUS))
    ]
    images = [
        one_adapter(workflow, loaded, latent, TOP + ROW * number) for number, loaded in enumerate((*adapters, first))
    ]
    together = images[0]
    for number, image in enumerate(images[1:]):
        pos = (SAVING, TOP + 110 * number)
        together = workflow.add("ImageBatch", pos, (400, 60), image1=together, image2=image)["IMAGE"]
    sheet = workflow.add(
        "IPAdapterInstructLabelGrid",
        (SAVING, TOP + 220),
        (400, 260),
        images=together,
        column_labels="IP-Adapter\nIP-Adapter Plus\nIPAdapter-Instruct",
    )
    workflow.add(
        "SaveImage", (SAVING, 620), (700, 380), images=sheet["grid"], filename_prefix="IPAdapter-Instruct-compared"
    )
    workflow.note(notes.COMPARE_ADAPTERS, (SAVING, 1080), (700, 420))
    workflow.group("Load", 20, 10, 400, 1400)
    workflow.group("IP-Adapter, Plus and Instruct: the same nodes", 440, 10, 1240, 1920)
    workflow.group("Side by side", 1700, 10, 740, 1010)


def adapter(workflow: Workflow, file: dict, number: int) -> Node:
    """Add the loader of a plain adapter, below the picture."""
    return workflow.add(
        "IPAdapterInstructLoader",
        (LOADING, TOP + 990 + 190 * number),
        (360, 90),
        models=[file, ENCODER],
        adapter_name=file["name"],
    )


def one_adapter(workflow: Workflow, loaded: Loaded, latent: Output, top: int) -> Output:
    """Encode, apply, sample and decode; return the picture."""
    encoded = encode(workflow, loaded, "use the style", PROMPTS[TASK], pos=(READING, top))
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, TASK, pos=(APPLYING, top))["MODEL"]
    cfg = recommended(FAMILY, TASK).cfg
    samples = sample(workflow, SAMPLINGS[FAMILY], cfg, model, encoded, latent, top)
    decoded = workflow.add("VAEDecode", (SAMPLING, top + 380), (320, 60), samples=samples, vae=loaded.checkpoint["VAE"])
    return decoded["IMAGE"]


def faceid_embeddings(workflow: Workflow) -> None:
    """Take a face from a file of its embedding; and show, muted, how such a file is made of a photo."""
    checkpoint = load_checkpoint(workflow, FAMILY)
    loader = workflow.add(
        "IPAdapterInstructLoader",
        (LOADING, TOP + 160),
        (360, HEIGHTS["adapter"]),
        models=[FACE_ID],
        adapter_name=FACE_ID["name"],
    )
    face = workflow.add("IPAdapterInstructLoadFace", (LOADING, TOP + 350), (360, 80), file=FACE_FILE)
    encoded = workflow.add(
        "IPAdapterInstructEncodeStored",
        (READING, TOP),
        (400, 500),
        adapter=loader["adapter"],
        clip=checkpoint["CLIP"],
        face=face["face"],
        prompt="portrait of a person as an astronaut, studio light, detailed",
        negative_prompt=NEGATIVE,
    )
    model = apply(workflow, checkpoint["MODEL"], encoded, FAMILY, "face")["MODEL"]
    loaded = Loaded(checkpoint, loader, face)
    sample_and_save(workflow, FAMILY, loaded, model, encoded, empty_latent(workflow, SAMPLINGS[FAMILY]))
    read_from_a_photo(workflow)
    workflow.note(notes.FACE_ID_EMBEDDINGS, (SAMPLING, 740), (780, 460))
    workflow.group("Load", 20, 10, 400, 540)
    workflow.group("The face", 440, 10, 860, 680)
    workflow.group("Sample and save", 1320, 10, 820, 680)
    workflow.group("Once: a photo's face into a file (needs insightface; select, Ctrl+M)", 20, 700, 1280, 530)


def read_from_a_photo(workflow: Workflow) -> None:
    """Add photo, face analysis, face and file, muted, so that the workflow runs without insightface."""
    first = len(workflow.nodes)
    photo = picture(workflow, (LOADING, 790), "Photo")
    analysis = workflow.add("IPAdapterInstructFaceAnalysis", (READING, 790), (400, 90))
    read = workflow.add(
        "IPAdapterInstructReadFace",
        (READING, 940),
        (400, 130),
        face_analysis=analysis["face_analysis"],
        image=photo["IMAGE"],
    )
    workflow.add("IPAdapterInstructSaveFace", (APPLYING, 790), (360, 80), face=read["face"])
    workflow.add("PreviewImage", (APPLYING, 930), (360, 270), images=read["crop"])
    for node in workflow.nodes[first:]:
        node["mode"] = MUTED
