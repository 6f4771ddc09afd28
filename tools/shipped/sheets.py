"""The workflows that end in a labelled sheet, and those with other adapters: without an instruction, or trained."""

from __future__ import annotations

from shipped.graph import Node
from shipped.notes import ADAPTERS, ENCODER, FACE_ID, PLAIN, PLUS
from shipped.parts import (
    APPLYING,
    LOAD_HEIGHT,
    LOADING,
    NEGATIVE,
    PROMPTS,
    READING,
    ROW_HEIGHT,
    SAMPLERS,
    SAMPLING,
    SAVING,
    SEED,
    TOP,
    InstructWorkflow,
)

TASK = "style"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256
LEFT = SAMPLING + 20
ROW = 560  # from one adapter's nodes to the next one's
FACE_PROMPT = "portrait of a person as an astronaut, studio light, detailed"
FACE_PREFIX = "faces/face"
FACE_FILE = f"{FACE_PREFIX}_00001_.face.safetensors [output]"
MUTED = 2
INSTRUCTION = "use the inverted look"
CAPTION = "a picture in inverted colours"
PAIRS = 8


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
    shown = workflow.square(workflow.loaded, CELL, (LEFT, TOP), "The picture", 320)
    others = workflow.square(cells["images"], CELL, (LEFT, TOP + 220), "What came of it", 320)
    together = workflow.batch(shown, others, (LEFT, TOP + 440), 320)
    columns = ["the picture", *INSTRUCTIONS]
    sheet = workflow.labelled(together, (LEFT, TOP + 560), columns, f"prompt: {PROMPTS[TASK][0]}")
    workflow.add("SaveImage", (SAVING, TOP), (860, 420), images=sheet, filename_prefix="IPAdapter-Instruct-sheet")
    workflow.explain((READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)
    workflow.group("Load", 20, 10, 400, LOAD_HEIGHT)


def instruct_grid(workflow: InstructWorkflow, **axes: str) -> Node:
    """Add Instruct Grid, set as the authors do. axes: rows, row_values, columns, column_values."""
    texts, settings = dict(zip(("prompt", "negative_prompt"), PROMPTS[TASK], strict=True)), workflow.family.settings
    sampled = {"seed": SEED, "cfg": settings.cfg, **SAMPLERS[workflow.family.name]}
    linked = {"image": workflow.loaded, "latent": workflow.empty_latent((READING, TOP))}
    place = "IPAdapterInstructGrid", (APPLYING, TOP), (400, 940)
    return workflow.add(*place, weight=settings.weight, **texts, **sampled, **linked, **axes)


def compare_adapters(workflow: InstructWorkflow) -> None:
    """Put one picture through a base IP-Adapter, a Plus and IPAdapter-Instruct, side by side on one sheet."""
    workflow.load()
    latent = workflow.empty_latent((LOADING, TOP + 865))
    base = workflow.load_adapter(PLAIN, ENCODER, top=TOP + 1055)
    plus = workflow.load_adapter(PLUS, ENCODER, top=TOP + 1305)
    images = []
    for number, adapter in enumerate((base, plus, workflow.loaded)):
        top = TOP + ROW * number
        encoded = workflow.encode(TASK, pos=(READING, top), adapter=adapter)
        images.append(workflow.sample(workflow.apply(encoded, (APPLYING, top)), encoded, latent, top))
    two = workflow.batch(images[0], images[1], (SAVING, TOP), 400)
    three = workflow.batch(two, images[2], (SAVING, TOP + 110), 400)
    sheet = workflow.labelled(three, (SAVING, TOP + 220), ["IP-Adapter", "IP-Adapter Plus", "IPAdapter-Instruct"])
    workflow.add("SaveImage", (SAVING, 620), (700, 380), images=sheet, filename_prefix="IPAdapter-Instruct-compared")
    workflow.explain((SAVING, 1080), (700, 420))
    workflow.group("Load", 20, 10, 400, 1600)
    workflow.group("IP-Adapter, Plus and Instruct: the same nodes", 440, 10, 1240, 3 * ROW + 20)
    workflow.group("Side by side", 1700, 10, 740, 1010)


def faceid_embeddings(workflow: InstructWorkflow) -> None:
    """Take a face from a file of its embedding; and show, muted, how such a file is made of a photo."""
    workflow.load_checkpoint()
    workflow.loaded |= workflow.load_adapter(FACE_ID)
    face = workflow.add("IPAdapterInstructLoadFace", (LOADING, TOP + 410), (360, 80), file=FACE_FILE)
    row = workflow.reference((READING, TOP), face=face)
    workflow.instruct_in_a_column("face", (FACE_PROMPT, NEGATIVE), row)
    # Muted, so that the workflow runs without insightface.
    first, top = len(workflow.nodes), 1260
    photo = {"image": workflow.load_picture((LOADING, top), "Photo"), "save_as": FACE_PREFIX}
    read = workflow.add("IPAdapterInstructReadFace", (READING, top), (400, 290), **photo)
    workflow.add("PreviewImage", (APPLYING, top), (360, 290), images=read["crop"])
    for node in workflow.nodes[first:]:
        node["mode"] = MUTED
    workflow.explain((SAMPLING, 740), (780, 460))
    workflow.group("Load", 20, 10, 400, 600)
    workflow.group("The face", 440, 10, 860, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)
    workflow.group("Once: a photo's face into a file (needs insightface; select, Ctrl+M)", 20, 1170, 1280, 530)


def train_instruction(workflow: InstructWorkflow) -> None:
    """Train the published adapter on eight pairs cut from one picture; it then follows the new instruction."""
    workflow.load_checkpoint()
    workflow.loaded |= workflow.load_picture((LOADING, TOP + 160), "A picture to cut references from")
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, TOP + 610), (360, 170), max_tiles=9, whole=False)
    eight = {"image": tiles, "length": PAIRS}
    references = workflow.add("ImageFromBatch", (LOADING, TOP + 830), (360, 110), "References", **eight)
    targets = workflow.add("ImageInvert", (LOADING, TOP + 990), (360, 60), "Targets", image=references)
    published = ADAPTERS[workflow.family.name]
    pairs = {"references": references, "targets": targets, "instruction": INSTRUCTION, "captions": CAPTION}
    how = {"steps": 200, "batch_size": 2, "learning_rate": 1e-5, "filename_prefix": "inverted"}
    trained = workflow.add(
        "IPAdapterInstructTrain",
        (READING, TOP),
        (400, 640),
        models=[published, ENCODER],
        initial_adapter=published["name"],
        **pairs,
        **how,
    )
    workflow.add("PreviewImage", (READING, TOP + 700), (400, 320), "Loss", images=trained["loss_plot"])
    workflow.loaded |= trained
    workflow.instruct_in_a_column(INSTRUCTION, (CAPTION, NEGATIVE))
    workflow.explain(size=(780, 400))
    workflow.group("Load and pair", 20, 10, 400, 1180)
    workflow.group("Train", 440, 10, 440, 1120)
    workflow.group("Instruct", 900, 10, 400, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)


BUILDERS = (grid, five_instructions, compare_adapters, faceid_embeddings, train_instruction)
