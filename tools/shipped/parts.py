"""The workflows' common parts: columns of nodes, each placed and linked. The figures are the pack's own tables'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyhost.pack import pack_module

from shipped.files import ADAPTERS, CHECKPOINTS, ENCODER
from shipped.graph import Node, Output, Workflow

families = pack_module("models.families")
tasks = pack_module("models.guidance.tasks")

PICTURE = "example.png"  # ComfyUI brings it
SEED = 20240805
PREPARING, LOADING, READING, APPLYING, SAMPLING, SAVING = -380, 40, 460, 920, 1340, 1720  # left edges of the columns
PREPARING_WIDTH = LOADING - PREPARING
TOP = 90
PICTURE_TOP, PICTURE_STEP = TOP + 405, 500  # where the first picture stands below the loaders, and the next ones
LOAD_HEIGHT = 965  # of the frame around loaders and one picture
BELOW_ENCODE = 560  # what stands under an Encode in the first row
ROW_HEIGHT = 1140  # of the frame around Encode, Apply and a latent, one below the other
HEIGHTS = {
    "checkpoint": 110,
    "adapter": 190,
    "picture": 400,
    "encode": 420,
    "reference": 400,
    "apply": 370,
    "sampler": 320,
}

NEGATIVE = "blurry, low quality, watermark"
STATUE = "a bronze statue in a park, golden hour, highly detailed"
PROMPTS = {
    "style": ("a lighthouse on a cliff above the sea", f"{NEGATIVE}, text"),
    "colour": ("a bowl of fruit on a wooden table, studio photo", NEGATIVE),
    "pose": (STATUE, f"{NEGATIVE}, extra limbs, deformed hands"),
    "composition": (STATUE, NEGATIVE),
    "face": ("portrait of a ship's captain in a wool coat, harbour", f"{NEGATIVE}, deformed face, crossed eyes"),
    "object": ("a helmet on a market stall, morning light", f"{NEGATIVE}, cropped"),
}


@dataclass(frozen=True)
class Sampling:
    """The way a family is sampled: steps, sampler, scheduler, and the empty latent's node and side."""

    steps: int
    sampler: str
    scheduler: str
    latent: str = "EmptyLatentImage"
    side: int = 512


SAMPLINGS = {
    "sd15": Sampling(20, "dpmpp_2m", "normal"),
    "sdxl": Sampling(25, "dpmpp_2m", "karras", side=1024),
    "sd3": Sampling(28, "dpmpp_2m", "sgm_uniform", "EmptySD3LatentImage", 1024),
}


@dataclass(frozen=True)
class Loaded:
    """The nodes of the first column. picture: None where no picture is read."""

    checkpoint: Node
    adapter: Node
    picture: Node | None = None


def load(
    workflow: Workflow, family: str, title: str = "Reference picture", pos: tuple[int, int] = (LOADING, PICTURE_TOP)
) -> Loaded:
    """Add the three loaders; `pos`: the picture's place."""
    checkpoint = load_checkpoint(workflow, family)
    adapter = load_adapter(workflow, ADAPTERS[family], ENCODER)
    return Loaded(checkpoint, adapter, picture(workflow, pos, title))


def load_checkpoint(workflow: Workflow, family: str) -> Node:
    return workflow.add(
        "CheckpointLoaderSimple",
        (LOADING, TOP),
        (360, HEIGHTS["checkpoint"]),
        models=[CHECKPOINTS[family]],
        ckpt_name=CHECKPOINTS[family]["name"],
    )


def load_adapter(workflow: Workflow, file: dict, *encoder: dict, top: int = TOP + 160) -> Node:
    """Load an adapter's file. encoder: the image encoder's, which is found by itself."""
    return workflow.add(
        "IPAdapterInstructLoader",
        (LOADING, top),
        (360, HEIGHTS["adapter"]),
        models=[file, *encoder],
        adapter_name=file["name"],
    )


def picture(workflow: Workflow, pos: tuple[int, int], title: str) -> Node:
    return workflow.add("LoadImage", pos, (360, HEIGHTS["picture"]), title=title, image=PICTURE)


def reference(workflow: Workflow, pos: tuple[int, int], **inputs) -> Output:
    """Add Instruct Reference and return its row of references. inputs: what is connected and set."""
    return workflow.add("IPAdapterInstructReference", pos, (400, HEIGHTS["reference"]), **inputs)["references"]


def encode(
    workflow: Workflow,
    loaded: Loaded,
    words: str | Output,
    texts: tuple[str, str],
    pos: tuple[int, int] = (READING, TOP),
    width: int = 400,
    **sources: Output,
) -> Node:
    """Add Encode Instruct Prompt.

    words: a task's name, or an instruction in one's own words. sources: of its inputs, where it does not read the
    loaded picture.
    """
    own = next((task.instruction for task in tasks.TASKS if task.name == words), None)
    choice = {"task": words, "instruction": own} if own else {"task": tasks.OWN_WORDS, "instruction": words}
    usual = {"adapter": loaded.adapter["adapter"], "clip": loaded.checkpoint["CLIP"]}
    read = {} if "references" in sources else {"image": loaded.picture["IMAGE"]}
    prompt, negative = texts
    inputs = {**usual, **read, **choice, "prompt": prompt, "negative_prompt": negative, **sources}
    return workflow.add("IPAdapterInstructEncode", pos, (width, HEIGHTS["encode"]), **inputs)


def apply(
    workflow: Workflow,
    model: Output,
    encoded: Node,
    family: str,
    task: str,
    pos: tuple[int, int] = (APPLYING, TOP),
    **changes,
) -> Output:
    """Add Apply IPAdapter-Instruct as recommended for the task. `changes`: what it gets besides, or instead."""
    settings = recommended(family, task)
    names = ("weight", "instruct_guidance", "image_guidance")
    recommended_inputs = {name: getattr(settings, name) for name in names}
    node = workflow.add(
        "IPAdapterInstructApply",
        pos,
        (360, HEIGHTS["apply"]),
        model=model,
        embeds=encoded["embeds"],
        **{**recommended_inputs, **changes},
    )
    return node["MODEL"]


def recommended(family: str, task: str) -> Any:
    """The pack's settings for a task of a family."""
    one = next(f for f in families.FAMILIES if f.name == family)
    return tasks.recommended(one, next(t for t in tasks.TASKS if t.name == task))


def cfg_of(family: str) -> float:
    """The recommended cfg, which is the same for all tasks."""
    return recommended(family, "style").cfg


def empty_latent(workflow: Workflow, family: str, pos: tuple[int, int] = (APPLYING, 550), batch: int = 1) -> Output:
    how = SAMPLINGS[family]
    node = workflow.add(how.latent, pos, (360, 130), width=how.side, height=how.side, batch_size=batch)
    return node["LATENT"]


def sample(
    workflow: Workflow,
    how: Sampling,
    cfg: float | Output,
    model: Output,
    conditioning: Node | Mapping[str, Output],
    latent: Output,
    top: int = TOP,
) -> Output:
    """Add KSampler, with `conditioning` the node whose positive and negative it takes."""
    node = workflow.add(
        "KSampler",
        (SAMPLING, top),
        (320, HEIGHTS["sampler"]),
        model=model,
        positive=conditioning["positive"],
        negative=conditioning["negative"],
        latent_image=latent,
        seed=SEED,
        steps=how.steps,
        cfg=cfg,
        sampler_name=how.sampler,
        scheduler=how.scheduler,
        denoise=1.0,
    )
    return node["LATENT"]


def sample_and_decode(
    workflow: Workflow,
    family: str,
    loaded: Loaded,
    model: Output,
    conditioning: Node | Mapping[str, Output],
    latent: Output,
    top: int = TOP,
    cfg: float | Output | None = None,
) -> Output:
    """Add KSampler as a family is sampled, and VAE Decode; return the pictures."""
    cfg = cfg_of(family) if cfg is None else cfg
    samples = sample(workflow, SAMPLINGS[family], cfg, model, conditioning, latent, top)
    pos, vae = (SAMPLING, top + 380), loaded.checkpoint["VAE"]
    return workflow.add("VAEDecode", pos, (320, 60), samples=samples, vae=vae)["IMAGE"]


def sample_and_save(workflow: Workflow, *parts, **changes) -> Output:
    """Sample and decode likewise, save the pictures, and return them."""
    pictures = sample_and_decode(workflow, *parts, **changes)
    save(workflow, pictures)
    return pictures


def save(workflow: Workflow, pictures: Output, pos: tuple[int, int] = (SAVING, TOP), height: int = 460) -> None:
    workflow.add("SaveImage", pos, (400, height), images=pictures, filename_prefix="IPAdapter-Instruct")


def frames(workflow: Workflow, load: int = LOAD_HEIGHT, instruct: int = 680, sample: int = 680) -> None:
    """Add the three coloured frames of most workflows, as high as this."""
    workflow.group("Load", 20, 10, 400, load)
    workflow.group("Instruct", 440, 10, 860, instruct)
    workflow.group("Sample and save", 1320, 10, 820, sample)


def scaled(
    workflow: Workflow, image: Output, side: int, pos: tuple[int, int], title: str = "", width: int = 360
) -> Output:
    """The picture cut and scaled to a square."""
    node = workflow.add(
        "ImageScale",
        pos,
        (width, 170),
        title,
        image=image,
        upscale_method="lanczos",
        width=side,
        height=side,
        crop="center",
    )
    return node["IMAGE"]


def square(workflow: Workflow, places: tuple[tuple[int, int], ...], titles: tuple[str, str, str]) -> Output:
    """Add a mask of 512 pixels with a white square in it, of three nodes."""
    whole, inside, both = titles
    black, white, composite = places
    outer = workflow.add("SolidMask", black, (360, 130), whole, value=0.0, width=512, height=512)
    inner = workflow.add("SolidMask", white, (360, 130), inside, width=256, height=256)
    mask = workflow.add(
        "MaskComposite",
        composite,
        (360, 180),
        both,
        destination=outer["MASK"],
        source=inner["MASK"],
        x=128,
        y=64,
        operation="add",
    )
    return mask["MASK"]


def finish(workflow: Workflow, loaded: Loaded, family: str, task: str, words: str = "", **sources: Output) -> Node:
    """Encode, apply, sample and save; return Encode. words: to say in place of the task's. sources: see `encode`."""
    encoded = encode(workflow, loaded, words or task, PROMPTS[task], **sources)
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, family, task)
    sample_and_save(workflow, family, loaded, model, encoded, empty_latent(workflow, family))
    return encoded


def finish_below(
    workflow: Workflow,
    loaded: Loaded,
    words: str,
    texts: tuple[str, str],
    row: Output | None = None,
    batch: int = 1,
    **changes: Output,
) -> Output:
    """Likewise for SD1.5 with Encode, Apply and latent one below the other; return the pictures.

    row: of references, to encode instead of the picture. changes: what Apply gets besides.
    """
    family, sources = "sd15", {} if row is None else {"references": row}
    encoded = encode(workflow, loaded, words, texts, (APPLYING, TOP), 360, **sources)
    pos = APPLYING, BELOW_ENCODE
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, family, "style", pos, **changes)
    latent = empty_latent(workflow, family, (APPLYING, BELOW_ENCODE + 440), batch)
    return sample_and_save(workflow, family, loaded, model, encoded, latent)
