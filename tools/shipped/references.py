"""The workflows about references: several, prepared ones, stored ones; and about other adapters that read them."""

from shipped.graph import Node, Source
from shipped.notes import ADAPTERS, ENCODER, FACE_ID, PLAIN, PLUS
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LATENTS,
    LOADING,
    PICTURE_STEP,
    PICTURE_TOP,
    PREPARING,
    READING,
    ROW_HEIGHT,
    SAMPLING,
    SAVING,
    SECOND_PICTURE,
    TOP,
    InstructWorkflow,
)

SECOND_ROW = 720  # where the nodes of the right half stand
HALVES = 1560  # where the masks of the halves stand
ROW = 560  # from one adapter's nodes to the next one's
FACE_PREFIX = "faces/face"
MUTED = 2
INSTRUCTION = "use the inverted look"
CAPTION = "a picture in inverted colours"


def several_references(workflow: InstructWorkflow) -> None:
    """Take three pictures, an instruction and a weight each, and one Apply; the references are a row from below."""
    workflow.load("Picture for the face")
    pictures: dict[str, Source] = {"face": workflow.loaded}
    for place, task in ((1, "composition"), (2, "style")):
        pos = LOADING, PICTURE_TOP + PICTURE_STEP * place
        pictures[task] = workflow.load_picture(pos, f"Picture for the {task}")
    row = None
    for place, task, weight in ((2, "style", 1.0), (1, "composition", 0.6), (0, "face", 0.8)):
        inputs = {"image": pictures[task], "instruction": f"use the {task}", "weight": weight, "references": row}
        row = workflow.reference((READING, PICTURE_TOP + PICTURE_STEP * place), **inputs)
    workflow.instruct_in_a_column("style", "face", row)
    workflow.finish(size=(780, 340), load=1960, instruct=1960)


def batch_of_references(workflow: InstructWorkflow) -> None:
    """Put two references into one batch, the first for the first picture of a batch, the second for the second."""
    workflow.load("For the first picture", (PREPARING, TOP))
    second = workflow.load_picture((PREPARING, TOP + PICTURE_STEP), "For the second picture")
    part = {"width": 384, "height": 384, "x": 192, "y": 0}
    cropped = workflow.add("ImageCrop", (LOADING, PICTURE_TOP), (360, 170), image=second, **part)
    both = workflow.batch(workflow.loaded, cropped, (LOADING, PICTURE_TOP + 230))
    row = workflow.reference((READING, TOP), image=both, combine="one per batch index")
    factors = {"factors": "1", "batch_factors": "1, 0.6"}
    schedule = workflow.add("IPAdapterInstructSchedule", (READING, BELOW_ENCODE), (400, 300), **factors)
    pictures = workflow.instruct_in_a_column("style", row=row, batch=2, schedule=schedule)
    columns = ["first reference, weight 0.8", "second reference, weight 0.48"]
    sheet = workflow.labelled(pictures, (SAMPLING, 780), columns)
    workflow.add("PreviewImage", (SAVING, 780), (400, 300), images=sheet)
    workflow.group("References", PREPARING - 20, 10, 400, 1010)
    workflow.group("Side by side", SAMPLING - 20, 700, 820, 410)
    workflow.finish((PREPARING, 1070), (780, 300), load=830, instruct=ROW_HEIGHT)
    workflow.move_right(LOADING - PREPARING)


def regions(workflow: InstructWorkflow) -> None:
    """Give the left and the right half a picture, an instruction and a prompt each."""
    workflow.load("Picture for the left")
    other = workflow.load_picture(SECOND_PICTURE, "Picture for the right")
    left, right = halves(workflow)
    first = workflow.encode("style", "a lighthouse on a cliff, left of the sea")
    second = workflow.encode("colour", "a sailing ship on the sea", (READING, SECOND_ROW), image=other)
    model = workflow.apply(first, attn_mask=left)
    model = workflow.apply(second, (APPLYING, SECOND_ROW), model=model, attn_mask=right)
    prompts = {
        "conditioning_1": prompt_within(workflow, first, left, 520),
        "conditioning_2": prompt_within(workflow, second, right, SECOND_ROW + 430),
    }
    both = workflow.add("ConditioningCombine", (SAMPLING, TOP), (320, 60), "Both prompts", **prompts)
    conditioning = {"positive": both["CONDITIONING"], "negative": first["negative"]}
    latent = workflow.empty_latent((APPLYING, SECOND_ROW + 600))
    workflow.sample_and_save(model, conditioning, latent, top=TOP + 130)
    workflow.finish((SAMPLING, 850), (780, 320), load=1480, instruct=1470, sample=780)
    workflow.group("Left and right", 20, HALVES - 60, 860, 590)


def prompt_within(workflow: InstructWorkflow, encoded: Node, mask: Node, top: int) -> Node:
    """Limit what an Encode says to the sampler to a mask."""
    inputs = {"conditioning": encoded["positive"], "mask": mask, "set_cond_area": "default"}
    return workflow.add("ConditioningSetMask", (APPLYING, top), (360, 110), **inputs)


def halves(workflow: InstructWorkflow) -> tuple[Node, Node]:
    """Return masks of the left and the right half with a soft edge, made in the graph."""
    (_, side), edge, top = LATENTS[workflow.family.name], 64, HALVES
    width = (side + edge) // 2
    nothing = workflow.add("SolidMask", (LOADING, top), (360, 130), "Nothing", value=0.0, width=side, height=side)
    half = workflow.add("SolidMask", (LOADING, top + 180), (360, 130), "A half", width=width, height=side)
    soft = workflow.add("FeatherMask", (LOADING, top + 360), (360, 140), "Soft edge", mask=half, right=edge)
    put = {"destination": nothing, "source": soft, "operation": "add"}
    left = workflow.add("MaskComposite", (READING, top), (400, 150), "Left", **put)
    return left, workflow.add("InvertMask", (READING, top + 210), (400, 60), "Right", mask=left)


def negative_instruction(workflow: InstructWorkflow) -> None:
    """Say what to take from the picture, and what to leave behind."""
    workflow.load()
    behind = "use the composition"
    row = workflow.reference((READING, TOP), image=workflow.loaded, negative_instruction=behind)
    workflow.instruct_in_a_column("style", row=row)
    workflow.finish(instruct=ROW_HEIGHT)


def object_cut_out(workflow: InstructWorkflow) -> None:
    """Show an object on a plain colour, and large."""
    workflow.load(pos=(PREPARING, TOP))
    places = (PREPARING, 600), (PREPARING, 780), (PREPARING, 960)
    mask = workflow.square_mask(places, ("Leave this", "Keep this"))
    workflow.instruct_by(mask, "use the object, a helmet", "object", feather=4.0)


def detail_tiles(workflow: InstructWorkflow) -> None:
    """Read a large picture in tiles, for the detail of its style."""
    workflow.load()
    tiles = workflow.add("IPAdapterInstructTile", (LOADING, PICTURE_TOP + 470), (360, 150))
    encoded = workflow.encode("style", image=tiles)
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.finish((READING, 750), (820, 300), load=1170)


def stored_embeds(workflow: InstructWorkflow) -> None:
    """Keep what was encoded in a file, and read a picture's states by another instruction."""
    workflow.load()
    encoded = workflow.encode("style")
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    save, top = "IPAdapterInstructSaveEmbeds", 1090
    workflow.add(save, (READING, BELOW_ENCODE), (400, 90), embeds=encoded)
    # The picture as the image encoder saw it, by ComfyUI's own nodes.
    encoder = workflow.add("CLIPVisionLoader", (LOADING, top), (360, 60), models=[ENCODER], clip_name=ENCODER["name"])
    seen = workflow.add("CLIPVisionEncode", (READING, top), (400, 100), clip_vision=encoder, crop="center")
    row = workflow.reference((READING, top + 160), clip_vision_output=seen)
    other = workflow.encode("colour", pos=(APPLYING, top), width=360, references=row)
    workflow.add(save, (SAMPLING, top), (320, 90), embeds=other, filename_prefix="embeds/colour")
    workflow.finish((SAVING, 740), (400, 560))
    workflow.group("The picture as the encoder saw it, read by another instruction", 20, top - 80, 1660, 660)


def compare_adapters(workflow: InstructWorkflow) -> None:
    """Put one picture through a base IP-Adapter, a Plus and IPAdapter-Instruct, side by side on one sheet."""
    workflow.load()
    latent = workflow.empty_latent((LOADING, TOP + 865))
    base = workflow.load_adapter(PLAIN, ENCODER, top=TOP + 1055)
    plus = workflow.load_adapter(PLUS, ENCODER, top=TOP + 1305)
    images = []
    for number, adapter in enumerate((base, plus, workflow.loaded)):
        top = TOP + ROW * number
        encoded = workflow.encode("style", pos=(READING, top), adapter=adapter)
        images.append(workflow.sample(workflow.apply(encoded, (APPLYING, top)), encoded, latent, top))
    two = workflow.batch(images[0], images[1], (SAVING, TOP), 400)
    three = workflow.batch(two, images[2], (SAVING, TOP + 110), 400)
    sheet = workflow.labelled(three, (SAVING, TOP + 220), ["IP-Adapter", "IP-Adapter Plus", "IPAdapter-Instruct"])
    workflow.add("SaveImage", (SAVING, 620), (700, 380), images=sheet, filename_prefix="IPAdapter-Instruct-compared")
    workflow.explain((SAVING, 1080), (700, 420))
    workflow.group("Load", 20, 10, 400, 1630)
    workflow.group("IP-Adapter, Plus and Instruct: the same nodes", 440, 10, 1240, 3 * ROW + 20)
    workflow.group("Side by side", 1700, 10, 740, 1010)


def faceid_embeddings(workflow: InstructWorkflow) -> None:
    """Take a face from a file of its embedding; and show, muted, how such a file is made of a photo."""
    workflow.load_checkpoint()
    workflow.loaded |= workflow.load_adapter(FACE_ID)
    file = f"{FACE_PREFIX}_00001_.face.safetensors [output]"
    face = workflow.add("IPAdapterInstructLoadFace", (LOADING, TOP + 410), (360, 80), file=file)
    prompt = "portrait of a person as an astronaut, studio light, detailed"
    workflow.instruct_in_a_column("face", prompt, workflow.reference((READING, TOP), face=face))
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
    references = workflow.add("ImageFromBatch", (LOADING, TOP + 830), (360, 110), "References", image=tiles, length=8)
    targets = workflow.add("ImageInvert", (LOADING, TOP + 990), (360, 60), "Targets", image=references)
    published = ADAPTERS[workflow.family.name]
    files = {"models": [published, ENCODER], "initial_adapter": published["name"], "filename_prefix": "inverted"}
    pairs = {"references": references, "targets": targets, "instruction": INSTRUCTION, "captions": CAPTION}
    how = {"steps": 200, "batch_size": 2, "learning_rate": 1e-5}
    trained = workflow.add("IPAdapterInstructTrain", (READING, TOP), (400, 640), **files, **pairs, **how)
    workflow.add("PreviewImage", (READING, TOP + 700), (400, 320), "Loss", images=trained["loss_plot"])
    workflow.loaded |= trained
    workflow.instruct_in_a_column(INSTRUCTION, CAPTION)
    workflow.explain((SAMPLING, 760), (780, 400))
    workflow.group("Load and pair", 20, 10, 400, 1180)
    workflow.group("Train", 440, 10, 440, 1120)
    workflow.group("Instruct", 900, 10, 400, ROW_HEIGHT)
    workflow.group("Sample and save", 1320, 10, 820, 680)


BUILDERS = (
    *(several_references, batch_of_references, regions),
    *(negative_instruction, object_cut_out, detail_tiles, stored_embeds),
    *(compare_adapters, faceid_embeddings, train_instruction),
)
