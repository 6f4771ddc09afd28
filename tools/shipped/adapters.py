"""The workflows with other adapters: those that take no instruction, and one that is trained."""

from __future__ import annotations

from shipped.columns import APPLYING, LOADING, READING, ROW_HEIGHT, SAMPLING, SAVING, TOP
from shipped.files import ADAPTERS, ENCODER, FACE_ID, PLAIN, PLUS
from shipped.parts import NEGATIVE, InstructWorkflow
from shipped.sheets import labelled

TASK = "style"
ROW = 560  # from one adapter's nodes to the next one's
FACE_PROMPT = "portrait of a person as an astronaut, studio light, detailed"
FACE_PREFIX = "faces/face"
FACE_FILE = f"{FACE_PREFIX}_00001_.face.safetensors [output]"
MUTED = 2
INSTRUCTION = "use the inverted look"
CAPTION = "a picture in inverted colours"
PAIRS = 8


def compare_adapters(workflow: InstructWorkflow) -> None:
    """Put one picture through a base IP-Adapter, a Plus and IPAdapter-Instruct, side by side on one sheet."""
    workflow.load()
    latent = workflow.empty_latent((LOADING, TOP + 865))
    base = workflow.load_adapter(PLAIN, ENCODER, top=TOP + 1055)
    plus = workflow.load_adapter(PLUS, ENCODER, top=TOP + 1305)
    images = []
    for number, loaded in enumerate((base, plus, workflow.adapter)):
        top = TOP + ROW * number
        encoded = workflow.encode(TASK, pos=(READING, top), adapter=loaded["adapter"])
        images.append(workflow.sample(workflow.apply(encoded, (APPLYING, top)), encoded, latent, top))
    two = workflow.batch(images[0], images[1], (SAVING, TOP), 400)
    three = workflow.batch(two, images[2], (SAVING, TOP + 110), 400)
    sheet = labelled(workflow, three, (SAVING, TOP + 220), ["IP-Adapter", "IP-Adapter Plus", "IPAdapter-Instruct"])
    workflow.add("SaveImage", (SAVING, 620), (700, 380), images=sheet, filename_prefix="IPAdapter-Instruct-compared")
    workflow.explain((SAVING, 1080), (700, 420))
    workflow.group("Load", 20, 10, 400, 1600)
    workflow.group("IP-Adapter, Plus and Instruct: the same nodes", 440, 10, 1240, 3 * ROW + 20)
    workflow.group("Side by side", 1700, 10, 740, 1010)


def faceid_embeddings(workflow: InstructWorkflow) -> None:
    """Take a face from a file of its embedding; and show, muted, how such a file is made of a photo."""
    workflow.load_checkpoint()
    workflow.adapter = workflow.load_adapter(FACE_ID)
    face = workflow.add("IPAdapterInstructLoadFace", (LOADING, TOP + 410), (360, 80), file=FACE_FILE)["face"]
    row = workflow.reference((READING, TOP), face=face)
    workflow.instruct_in_a_column("face", (FACE_PROMPT, NEGATIVE), row)
    read_from_a_photo(workflow)
    workflow.explain((SAMPLING, 740), (780, 460))
    workflow.group("Load", 20, 10, 400, 600)
    workflow.group("The face", 440, 10, 860, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)
    workflow.group("Once: a photo's face into a file (needs insightface; select, Ctrl+M)", 20, 1170, 1280, 530)


def read_from_a_photo(workflow: InstructWorkflow) -> None:
    """Add a photo, its face and a file of it, muted, so that the workflow runs without insightface."""
    first, top = len(workflow.nodes), 1260
    photo = {"image": workflow.load_picture((LOADING, top), "Photo"), "save_as": FACE_PREFIX}
    read = workflow.add("IPAdapterInstructReadFace", (READING, top), (400, 290), **photo)
    workflow.add("PreviewImage", (APPLYING, top), (360, 290), images=read["crop"])
    for node in workflow.nodes[first:]:
        node["mode"] = MUTED


def train_instruction(workflow: InstructWorkflow) -> None:
    """Train the published adapter on eight pairs cut from one picture; it then follows the new instruction."""
    workflow.load_checkpoint()
    workflow.picture = workflow.load_picture((LOADING, TOP + 160), "A picture to cut references from")
    cut = {"image": workflow.picture, "max_tiles": 9, "whole": False}
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, TOP + 610), (360, 170), **cut)
    eight = {"image": tiles["image"], "length": PAIRS}
    references = workflow.add("ImageFromBatch", (LOADING, TOP + 830), (360, 110), "References", **eight)["IMAGE"]
    targets = workflow.add("ImageInvert", (LOADING, TOP + 990), (360, 60), "Targets", image=references)["IMAGE"]
    published = ADAPTERS[workflow.family]
    workflow.adapter = workflow.add(
        "IPAdapterInstructTrain",
        (READING, TOP),
        (400, 640),
        models=[published, ENCODER],
        model=workflow.checkpoint["MODEL"],
        clip=workflow.checkpoint["CLIP"],
        vae=workflow.checkpoint["VAE"],
        references=references,
        targets=targets,
        instruction=INSTRUCTION,
        captions=CAPTION,
        initial_adapter=published["name"],
        steps=200,
        batch_size=2,
        learning_rate=1e-5,
        filename_prefix="inverted",
    )
    workflow.add("PreviewImage", (READING, TOP + 700), (400, 320), "Loss", images=workflow.adapter["loss_plot"])
    workflow.instruct_in_a_column(INSTRUCTION, (CAPTION, NEGATIVE))
    workflow.explain(size=(780, 400))
    workflow.group("Load and pair", 20, 10, 400, 1180)
    workflow.group("Train", 440, 10, 440, 1120)
    workflow.group("Instruct", 900, 10, 400, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)


BUILDERS = (compare_adapters, faceid_embeddings, train_instruction)
