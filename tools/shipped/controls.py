"""The workflows about when, how much, in which layers, and seeing it."""

from __future__ import annotations

from shipped import control_notes as notes
from shipped.graph import Workflow
from shipped.parts import (
    APPLYING,
    GUIDER,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    SEED,
    TOP,
    apply,
    decode_and_save,
    empty_latent,
    encode,
    frames,
    load,
    recommended,
    sample,
    sample_and_save,
    sample_in_parts,
)

BELOW_APPLY = 650


def weight_over_time(workflow: Workflow) -> None:
    """Let the picture act at the beginning, and the prompt alone at the end."""
    loaded = load(workflow, "sd15")
    schedule = workflow.add(
        "IPAdapterInstructSchedule",
        (APPLYING, TOP),
        (360, 210),
        factors="0: 1\n0.3: 1\n0.5: 0",
        between="linear",
    )
    encoded = encode(workflow, loaded, "use the composition", PROMPTS["composition"])
    model = apply(
        workflow,
        loaded.checkpoint["MODEL"],
        encoded,
        "sd15",
        "composition",
        (APPLYING, 350),
        schedule=schedule["schedule"],
    )["MODEL"]
    sample_and_save(
        workflow, "sd15", loaded, model, encoded, empty_latent(workflow, SAMPLINGS["sd15"], (APPLYING, 790))
    )
    workflow.note(notes.WEIGHT_OVER_TIME, (READING, 980), (820, 320))
    frames(workflow, height=930)


def instruction_schedule(workflow: Workflow) -> None:
    """Take the composition until a moment, and the style from then on."""
    loaded = load(workflow, "sd15")
    texts = PROMPTS["composition"]
    first = encode(workflow, loaded, "use the composition", texts)
    second = encode(workflow, loaded, "use the style", texts, pos=(READING, BELOW_APPLY))
    turns = workflow.add(
        "IPAdapterInstructThen",
        (APPLYING, TOP),
        (360, 110),
        embeds=first["embeds"],
        then=second["embeds"],
        at_percent=0.35,
    )
    model = apply(workflow, loaded.checkpoint["MODEL"], turns, "sd15", "composition", (APPLYING, 250))["MODEL"]
    sample_and_save(workflow, "sd15", loaded, model, first, empty_latent(workflow, SAMPLINGS["sd15"], (APPLYING, 700)))
    workflow.note(notes.INSTRUCTION_SCHEDULE, (SAMPLING, 760), (780, 320))
    frames(workflow)
    workflow.groups[1]["bounding"][3] = 1180


def layer_weights(workflow: Workflow) -> None:
    """Weigh the layers of SDXL, where one layer carries the style."""
    how = SAMPLINGS["sdxl"]
    loaded = load(workflow, "sdxl")
    layers = workflow.add("IPAdapterInstructLayers", (APPLYING, TOP), (360, 130), weight_type="strong style transfer")
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"])
    model = apply(
        workflow, loaded.checkpoint["MODEL"], encoded, "sdxl", "style", (APPLYING, 270), layers=layers["layers"]
    )["MODEL"]
    latent = empty_latent(workflow, how, (APPLYING, 720))
    samples = sample(workflow, how, recommended("sdxl", "style").cfg, model, encoded, latent)
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.LAYER_WEIGHTS, (READING, 910), (820, 320))
    frames(workflow, height=860)


def three_scales(workflow: Workflow) -> None:
    """Sample SD3 with Instruct Guider and the sampler in parts."""
    how, settings = SAMPLINGS["sd3"], recommended("sd3", "composition")
    loaded = load(workflow, "sd3")
    encoded = encode(workflow, loaded, "use the composition", PROMPTS["composition"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd3", "composition")["MODEL"]
    guider = workflow.add(
        "IPAdapterInstructGuider",
        GUIDER,
        (320, 190),
        model=model,
        positive=encoded["positive"],
        negative=encoded["negative"],
        text_guidance=settings.cfg,
        instruct_guidance=settings.instruct_guidance,
        image_guidance=settings.image_guidance,
    )
    sample_in_parts(workflow, how, model, guider, empty_latent(workflow, how), loaded.checkpoint["VAE"], 530)
    workflow.note(notes.THREE_SCALES, (READING, 760), (820, 290))
    workflow.group("Load", 20, 10, 400, 900)
    workflow.group("Instruct", 440, 10, 860, 680)
    workflow.group("Sample and save", 1320, 10, 820, 860)


def heat_map(workflow: Workflow) -> None:
    """Show where the new picture looks at the reference, beside the picture."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15")
    encoded = encode(workflow, loaded, "use the face", PROMPTS["face"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd15", "face")["MODEL"]
    watched = workflow.add("IPAdapterInstructWatch", (APPLYING, 550), (360, 60), model=model)
    latent = empty_latent(workflow, how, (APPLYING, 660))
    samples = sample(workflow, how, recommended("sd15", "face").cfg, watched["model"], encoded, latent)
    decoded = workflow.add("VAEDecode", (SAMPLING, TOP + 380), (320, 60), samples=samples, vae=loaded.checkpoint["VAE"])
    shown = workflow.add(
        "IPAdapterInstructHeatMap",
        (SAMPLING, 590),
        (320, 210),
        watch=watched["watch"],
        image=decoded["IMAGE"],
    )
    workflow.add("SaveImage", (SAVING, TOP), (400, 330), images=decoded["IMAGE"], filename_prefix="IPAdapter-Instruct")
    workflow.add("PreviewImage", (SAVING, 470), (400, 330), images=shown["overlay"])
    workflow.note(notes.HEAT_MAP, (READING, 890), (820, 300))
    frames(workflow, height=840)


def grid(workflow: Workflow) -> None:
    """Compare three instructions by three weights."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15")
    latent = empty_latent(workflow, how, (READING, TOP))
    prompt, negative = PROMPTS["style"]
    cells = workflow.add(
        "IPAdapterInstructGrid",
        (APPLYING, TOP),
        (400, 940),
        model=loaded.checkpoint["MODEL"],
        adapter=loaded.adapter["adapter"],
        clip=loaded.checkpoint["CLIP"],
        vae=loaded.checkpoint["VAE"],
        image=loaded.picture["IMAGE"],
        latent=latent,
        prompt=prompt,
        negative_prompt=negative,
        seed=SEED,
        steps=how.steps,
        cfg=recommended("sd15", "style").cfg,
        sampler_name=how.sampler,
        scheduler=how.scheduler,
        rows="instruction",
        row_values="use the style\nuse the colour\nuse everything",
        columns="weight",
        column_values="0.4, 0.7, 1",
    )
    workflow.add("SaveImage", (SAMPLING + 20, TOP), (760, 940), images=cells["grid"], filename_prefix="Instruct-Grid")
    workflow.note(notes.GRID, (READING, 280), (400, 560))
    workflow.group("Load", 20, 10, 400, 1040)
    workflow.group("Every row by every column", 440, 10, 900, 1040)
    workflow.group("Save", SAMPLING + 10, 10, 790, 1040)


def task_settings(workflow: Workflow) -> None:
    """Let Instruct Task fill Encode, Apply and the sampler."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15")
    task = workflow.add(
        "IPAdapterInstructTask",
        (READING, TOP),
        (400, 230),
        adapter=loaded.adapter["adapter"],
        task="style",
        phrasing="random",
        seed=SEED,
    )
    encoded = encode(workflow, loaded, task["instruction"], PROMPTS["style"], pos=(READING, 380))
    model = apply(
        workflow,
        loaded.checkpoint["MODEL"],
        encoded,
        "sd15",
        "style",
        **{name: task[name] for name in ("weight", "guidance", "instruct_guidance", "image_guidance")},
    )["MODEL"]
    samples = sample(workflow, how, task["cfg"], model, encoded, empty_latent(workflow, how))
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.TASK_SETTINGS, (SAMPLING, 760), (780, 320))
    frames(workflow)
    workflow.groups[1]["bounding"][3] = 910
