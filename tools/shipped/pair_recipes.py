"""The workflows that make pairs to train on, which cli.py pairs runs for each picture.

The titles of nodes say where a picture, its words and a seed go, and what comes out.
"""

from shipped.graph import Node, Pair, Source
from shipped.notes import CONTROLNETS, ENCODER, PLAIN_SDXL
from shipped.parts import (
    APPLYING,
    LATENTS,
    LOADING,
    NEGATIVE,
    PICTURE,
    PICTURE_TOP,
    PROMPTS,
    READING,
    SAMPLING,
    SAVING,
    SECOND_PICTURE,
    TOP,
    InstructWorkflow,
    families,
)

PICTURE_PLACE, MASK_PLACE, POSE_PLACE = "Picture", "Mask", "Pose"
PROMPT_PLACE, SEED_PLACE, REFERENCE_PLACE, TARGET_PLACE = "Prompt", "Seed", "Reference", "Target"


def pairs_style(workflow: InstructWorkflow) -> None:
    """Draw something else in a picture's style: a plain IP-Adapter in the layers of SDXL that carry it."""
    workflow.family = families.SDXL
    workflow.load_checkpoint()
    workflow.loaded |= workflow.load_adapter(PLAIN_SDXL, ENCODER)
    workflow.loaded |= workflow.load_picture((LOADING, PICTURE_TOP), PICTURE_PLACE)
    layers = workflow.add("IPAdapterInstructLayers", (APPLYING, TOP), (360, 130), weight_type="style transfer")
    encoded = workflow.encode("style", title=PROMPT_PLACE)
    model = workflow.apply(encoded, (APPLYING, 300), layers=layers, weight=1.0)
    latent = workflow.empty_latent((APPLYING, 740))
    target(workflow, workflow.sample(model, encoded, latent, title=SEED_PLACE))
    workflow.finish(instruct=890)


def pairs_colour(workflow: InstructWorkflow) -> None:
    """Draw something else over a picture's colours, which are shrunk to a few and turned upside down."""
    picture = picture_and_checkpoint(workflow)
    few = workflow.add("ImageScale", (READING, TOP), (400, 170), "Its colours", image=picture, **square(8, "area"))
    turned = workflow.add("ImageRotate", (READING, 310), (400, 80), image=few, rotation="180 degrees")
    large = workflow.add("ImageScale", (READING, 440), (400, 170), "A ground of them", image=turned, **square(512))
    latent = workflow.add("VAEEncode", (READING, 660), (400, 60), pixels=large)
    texts = prompts(workflow, PROMPTS["colour"])
    drawn = {"positive": texts[0], "negative": texts[1], "latent_image": latent, "denoise": 0.85, "title": SEED_PLACE}
    target(workflow, workflow.sample(workflow.loaded["MODEL"], {}, latent, **drawn))
    frames(workflow, "Its colours alone")


def pairs_composition(workflow: InstructWorkflow) -> None:
    """Draw what a picture's words say along its edges, as if they were a scribble."""
    picture = picture_and_checkpoint(workflow)
    edges = workflow.add("Canny", (READING, TOP), (400, 110), image=picture)
    follow_lines(workflow, edges, "scribble", "composition")
    frames(workflow, "Its edges")


def pairs_pose(workflow: InstructWorkflow) -> None:
    """Draw somebody else in the pose that a skeleton shows."""
    skeleton = picture_and_checkpoint(workflow, POSE_PLACE)
    follow_lines(workflow, skeleton, "openpose", "pose")
    frames(workflow, "The skeleton")


def pairs_cut_out(workflow: InstructWorkflow) -> None:
    """Cut a reference out of its picture: what a mask keeps, on a random colour, or the square around it."""
    picture = workflow.load_picture((LOADING, TOP), PICTURE_PLACE)
    mask = load_mask(workflow, (LOADING, TOP + 460))
    how = {"action": "cut out and crop", "title": f"{SEED_PLACE}, Action"}
    prepared = workflow.add("IPAdapterInstructPrepare", (READING, TOP), (400, 310), image=picture, mask=mask, **how)
    shown = {"images": prepared["image"]}
    workflow.add("PreviewImage", (APPLYING, TOP), (360, 400), REFERENCE_PLACE, **shown)
    workflow.explain((READING, 620), (820, 300))
    workflow.group("The picture and its mask", 20, 10, 400, 960)
    workflow.group("Cut out", 440, 10, 860, 520)


def pairs_new_part(workflow: InstructWorkflow) -> None:
    """Keep what a mask covers and draw the rest anew, or the other way round."""
    picture, (_, side) = picture_and_checkpoint(workflow), LATENTS[workflow.family.name]
    mask = load_mask(workflow, SECOND_PICTURE)
    pixels = workflow.square(picture, side, (READING, TOP), width=400)
    as_image = workflow.add("MaskToImage", (READING, 310), (400, 60), mask=mask)
    cut = workflow.square(as_image, side, (READING, 420), "The mask likewise", 400)
    fits = workflow.add("ImageToMask", (READING, 640), (400, 80), image=cut, channel="red")
    how = {"image": pixels, "mask": fits, "background": "#808080", "title": "Invert"}
    kept = workflow.add("IPAdapterInstructPrepare", (READING, 770), (400, 310), **how)
    workflow.add("PreviewImage", (READING, 1130), (400, 300), "What stays", images=kept["image"])
    latent = workflow.add("VAEEncode", (APPLYING, 770), (360, 60), pixels=pixels)
    anew = workflow.add("InvertMask", (APPLYING, 880), (360, 60), "What is drawn anew", mask=kept["mask"])
    masked = workflow.add("SetLatentNoiseMask", (APPLYING, 990), (360, 60), samples=latent, mask=anew)
    texts = prompts(workflow, PROMPTS["object"])
    drawn = {"positive": texts[0], "negative": texts[1], "title": SEED_PLACE}
    images = workflow.sample(workflow.loaded["MODEL"], {}, masked, **drawn)
    both = {"destination": images, "source": pixels, "mask": kept["mask"]}
    target(workflow, workflow.add("ImageCompositeMasked", (SAMPLING, 560), (320, 150), "What stays, as it was", **both))
    workflow.explain((SAMPLING, 800), (780, 360))
    workflow.group("Load", 20, 10, 400, 1450)
    workflow.group("What stays, and what is drawn anew", 440, 10, 860, 1450)
    workflow.group("Sample", 1320, 10, 820, 720)


def picture_and_checkpoint(workflow: InstructWorkflow, place: str = PICTURE_PLACE) -> Node:
    workflow.load_checkpoint()
    return workflow.load_picture((LOADING, PICTURE_TOP), place)


def load_mask(workflow: InstructWorkflow, pos: Pair) -> Node:
    return workflow.add("LoadImageMask", pos, (360, 420), MASK_PLACE, image=PICTURE, channel="red")


def square(side: int, method: str = "bicubic") -> dict:
    return {"upscale_method": method, "width": side, "height": side, "crop": "center"}


def prompts(workflow: InstructWorkflow, texts: tuple[str, str]) -> tuple[Node, Node]:
    """Add the prompt and the negative prompt."""
    first = workflow.add("CLIPTextEncode", (APPLYING, TOP), (360, 180), PROMPT_PLACE, text=texts[0])
    return first, workflow.add("CLIPTextEncode", (APPLYING, 330), (360, 140), "Not this", text=NEGATIVE)


def follow_lines(workflow: InstructWorkflow, lines: Source, kind: str, task: str) -> None:
    """Sample along lines by a ControlNet of this kind."""
    control_net = workflow.load_controlnet(CONTROLNETS[kind], (READING, 260))
    positive, negative = prompts(workflow, PROMPTS[task])
    joined = {"positive": positive, "negative": negative, "control_net": control_net, "image": lines, "strength": 1.0}
    controlled = workflow.add("ControlNetApplyAdvanced", (READING, 410), (400, 250), **joined)
    latent = workflow.empty_latent((APPLYING, 530))
    target(workflow, workflow.sample(workflow.loaded["MODEL"], controlled, latent, title=SEED_PLACE))


def target(workflow: InstructWorkflow, images: Source) -> None:
    workflow.add("PreviewImage", (SAVING, TOP), (400, 460), TARGET_PLACE, images=images)


def frames(workflow: InstructWorkflow, middle: str) -> None:
    """Explain the workflow, and frame its three parts. middle: what the second is about."""
    workflow.explain((SAMPLING, 760), (780, 300))
    workflow.group("Load", 20, 10, 400, 965)
    workflow.group(middle, 440, 10, 860, 780)
    workflow.group("Sample", 1320, 10, 820, 680)


BUILDERS = (pairs_style, pairs_colour, pairs_composition, pairs_pose, pairs_cut_out, pairs_new_part)
