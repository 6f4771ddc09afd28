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
GUIDER = (SAMPLING, 250)
TOP, STEP = 90, 40
HEIGHTS = {"loader": 110, "adapter": 130, "picture": 400, "encode": 500, "apply": 370, "sampler": 320}

NEGATIVE = "blurry, low quality, watermark"
STATUE = "a bronze statue in a park, golden hour, highly detailed"
PROMPTS = {
    "everything": ("the same scene in winter, falling snow", NEGATIVE),
    "style": ("a lighthouse on a cliff above the sea", f"{NEGATIVE}, text"),
    "colour": ("a bowl of fruit on a wooden table, studio photo", NEGATIVE),
    "pose": (STATUE, f"{NEGATIVE}, extra limbs, deformed hands"),
    "composition": (STATUE, NEGATIVE),
    "face": ("portrait of a ship's captain in a wool coat, harbour", f"{NEGATIVE}, deformed face, crossed eyes"),
    "foreground": ("on a beach at sunset", NEGATIVE),
    "background": ("a red fox sitting, looking at the camera", NEGATIVE),
    "object": ("a helmet on a market stall, morning light", f"{NEGATIVE}, cropped"),
}
OBJECT = "use the object, a helmet"


@dataclass(frozen=True)
class Sampling:
    """The way a family is sampled: steps, sampler, scheduler, and the empty latent's node and side."""

    steps: int
    sampler: str
    scheduler: str
    latent: str = "EmptyLatentImage"
    side: int = 512
    denoise: float = 1.0


SAMPLINGS = {
    "sd15": Sampling(20, "dpmpp_2m", "normal"),
    "sdxl": Sampling(25, "dpmpp_2m", "karras", side=1024),
    "sd3": Sampling(28, "dpmpp_2m", "sgm_uniform", "EmptySD3LatentImage", 1024),
}


@dataclass(frozen=True)
class Loaded:
    """The nodes of the first column."""

    checkpoint: Node
    adapter: Node
    picture: Node


def load(
    workflow: Workflow, family: str, title: str = "Reference picture", pos: tuple[int, int] = (LOADING, TOP + 340)
) -> Loaded:
    """Add the three loaders; `pos`: the picture's place."""
    checkpoint = load_checkpoint(workflow, family)
    adapter = workflow.add(
        "IPAdapterInstructLoader",
        (LOADING, TOP + 160),
        (360, HEIGHTS["adapter"]),
        models=[ADAPTERS[family], ENCODER],
        adapter_name=ADAPTERS[family]["name"],
    )
    return Loaded(checkpoint, adapter, picture(workflow, pos, title))


def load_checkpoint(workflow: Workflow, family: str) -> Node:
    return workflow.add(
        "CheckpointLoaderSimple",
        (LOADING, TOP),
        (360, HEIGHTS["loader"]),
        models=[CHECKPOINTS[family]],
        ckpt_name=CHECKPOINTS[family]["name"],
    )


def picture(workflow: Workflow, pos: tuple[int, int], title: str) -> Node:
    return workflow.add("LoadImage", pos, (360, HEIGHTS["picture"]), title=title, image=PICTURE)


def encode(workflow: Workflow, loaded: Loaded, instruction: str, texts: tuple[str, str], **changes) -> Node:
    """Add Encode Instruct Prompt. `changes`: other sources for its inputs, and its place."""
    pos = changes.pop("pos", (READING, TOP))
    inputs = {"adapter": loaded.adapter["adapter"], "clip": loaded.checkpoint["CLIP"], "image": loaded.picture["IMAGE"]}
    return workflow.add(
        "IPAdapterInstructEncode",
        pos,
        (400, HEIGHTS["encode"]),
        **{**inputs, "instruction": instruction, "prompt": texts[0], "negative_prompt": texts[1], **changes},
    )


def apply(
    workflow: Workflow,
    model: Output,
    encoded: Node,
    family: str,
    task: str,
    pos: tuple[int, int] = (APPLYING, TOP),
    **changes,
) -> Node:
    """Add Apply IPAdapter-Instruct as recommended for the task. `changes`: what it gets besides, or instead."""
    settings = recommended(family, task)
    names = ("weight", "instruct_guidance", "image_guidance")
    recommended_inputs = {name: getattr(settings, name) for name in names}
    return workflow.add(
        "IPAdapterInstructApply",
        pos,
        (360, HEIGHTS["apply"]),
        model=model,
        embeds=encoded["embeds"],
        **{**recommended_inputs, **changes},
    )


def recommended(family: str, task: str) -> Any:
    """The pack's settings for a task of a family."""
    one = next(f for f in families.FAMILIES if f.name == family)
    return tasks.recommended(one, next(t for t in tasks.TASKS if t.name == task))


def empty_latent(workflow: Workflow, how: Sampling, pos: tuple[int, int] = (APPLYING, 550), batch: int = 1) -> Output:
    node = workflow.add(how.latent, pos, (360, 130), width=how.side, height=how.side, batch_size=batch)
    return node["LATENT"]


def sample(
    workflow: Workflow,
    how: Sampling,
    cfg: float,
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
        denoise=how.denoise,
    )
    return node["LATENT"]


def decode_and_save(workflow: Workflow, samples: Output, vae: Output, top: int = TOP) -> Output:
    """Decode and save the pictures. `top`: the sampler's."""
    decoded = workflow.add("VAEDecode", (SAMPLING, top + 380), (320, 60), samples=samples, vae=vae)
    workflow.add("SaveImage", (SAVING, TOP), (400, 460), images=decoded["IMAGE"], filename_prefix="IPAdapter-Instruct")
    return decoded["IMAGE"]


def sample_and_save(
    workflow: Workflow,
    family: str,
    loaded: Loaded,
    model: Output,
    conditioning: Node | Mapping[str, Output],
    latent: Output,
    top: int = TOP,
) -> Output:
    """Add KSampler as a family is sampled, and save the pictures. Its cfg is the same for all tasks."""
    cfg = recommended(family, "style").cfg
    samples = sample(workflow, SAMPLINGS[family], cfg, model, conditioning, latent, top)
    return decode_and_save(workflow, samples, loaded.checkpoint["VAE"], top)


def sample_in_parts(
    workflow: Workflow, how: Sampling, model: Output, guider: Node, latent: Output, vae: Output, below_guider: int
) -> None:
    """Add SamplerCustomAdvanced, what it takes beside a guider, and the rest. below_guider: the next node's place."""
    noise = workflow.add("RandomNoise", (SAMPLING, TOP), (320, 110), noise_seed=SEED)
    sampler = workflow.add("KSamplerSelect", (SAMPLING, below_guider), (320, 80), sampler_name=how.sampler)
    sigmas = workflow.add(
        "BasicScheduler",
        (SAMPLING, below_guider + 130),
        (320, 140),
        model=model,
        scheduler=how.scheduler,
        steps=how.steps,
    )
    samples = workflow.add(
        "SamplerCustomAdvanced",
        (SAVING, TOP),
        (400, 140),
        noise=noise["NOISE"],
        guider=guider["GUIDER"],
        sampler=sampler["SAMPLER"],
        sigmas=sigmas["SIGMAS"],
        latent_image=latent,
    )
    decoded = workflow.add("VAEDecode", (SAVING, 280), (400, 60), samples=samples["output"], vae=vae)
    workflow.add("SaveImage", (SAVING, 390), (400, 440), images=decoded["IMAGE"], filename_prefix="IPAdapter-Instruct")


def frames(workflow: Workflow, load_height: int = 900, height: int = 680) -> None:
    """Add the three coloured frames of most workflows."""
    workflow.group("Load", 20, 10, 400, load_height)
    workflow.group("Instruct", 440, 10, 860, height)
    workflow.group("Sample and save", 1320, 10, 820, height)


def scaled(workflow: Workflow, image: Output, side: int, pos: tuple[int, int]) -> Output:
    """The picture cut and scaled to the model's size."""
    node = workflow.add(
        "ImageScale",
        pos,
        (360, 170),
        image=image,
        upscale_method="lanczos",
        width=side,
        height=side,
        crop="center",
    )
    return node["IMAGE"]


def one_reference(
    workflow: Workflow, family: str, task: str, instruction: str, note: str, note_height: int = 300, **changes
) -> None:
    """Build the plain workflow: one picture, one instruction. `changes`: what Encode gets besides."""
    loaded = load(workflow, family)
    encoded = encode(workflow, loaded, instruction, PROMPTS[task], **changes)
    finish(workflow, loaded, encoded, family, task)
    workflow.note(note, (READING, 750), (820, note_height))
    frames(workflow)


def finish(workflow: Workflow, loaded: Loaded, encoded: Node, family: str, task: str) -> None:
    """Apply what was encoded, sample, and save."""
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, family, task)["MODEL"]
    sample_and_save(workflow, family, loaded, model, encoded, empty_latent(workflow, SAMPLINGS[family]))
