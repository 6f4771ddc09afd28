"""The workflows about when, how much, in which layers, and seeing it."""

from __future__ import annotations

from shipped import control_notes as notes
from shipped.graph import Workflow
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    SAVING,
    SEED,
    TOP,
    apply,
    cfg_of,
    empty_latent,
    encode,
    frames,
    load,
    sample_and_decode,
    sample_and_save,
    save,
)

FAMILY = "sd15"


def weight_over_time(workflow: Workflow) -> None:
    """Let the picture act at the beginning, and the prompt alone at the end."""
    loaded = load(workflow, FAMILY)
    schedule = workflow.add(
        "IPAdapterInstructSchedule",
        (APPLYING, TOP),
        (360, 300),
        factors="0: 1\n0.3: 1\n0.5: 0",
        between="linear",
    )["schedule"]
    encoded = encode(workflow, loaded, "composition", PROMPTS["composition"])
    model = loaded.checkpoint["MODEL"]
    model = apply(workflow, model, encoded, FAMILY, "composition", (APPLYING, 440), schedule=schedule)
    sample_and_save(workflow, FAMILY, loaded, model, encoded, empty_latent(workflow, FAMILY, (APPLYING, 860)))
    workflow.note(notes.WEIGHT_OVER_TIME, (SAMPLING, 760), (780, 320))
    frames(workflow, instruct=1000)


def instruction_schedule(workflow: Workflow) -> None:
    """Take the composition until a moment, and the style from then on."""
    loaded = load(workflow, FAMILY)
    texts = PROMPTS["composition"]
    first = encode(workflow, loaded, "composition", texts)
    second = encode(workflow, loaded, "style", texts, pos=(READING, BELOW_ENCODE))
    turns = workflow.add(
        "IPAdapterInstructCombine",
        (APPLYING, TOP),
        (360, 190),
        embeds_1=first["embeds"],
        embeds_2=second["embeds"],
        method="then",
        at_percent=0.35,
    )
    model = apply(workflow, loaded.checkpoint["MODEL"], turns, FAMILY, "composition", (APPLYING, 340))
    sample_and_save(workflow, FAMILY, loaded, model, first, empty_latent(workflow, FAMILY, (APPLYING, 770)))
    workflow.note(notes.INSTRUCTION_SCHEDULE, (SAMPLING, 760), (780, 320))
    frames(workflow, instruct=1000)


def layer_weights(workflow: Workflow) -> None:
    """Weigh the layers of SDXL, where one layer carries the style."""
    loaded = load(workflow, "sdxl")
    layers = workflow.add("IPAdapterInstructLayers", (APPLYING, TOP), (360, 130), weight_type="strong style transfer")
    encoded = encode(workflow, loaded, "style", PROMPTS["style"])
    model = loaded.checkpoint["MODEL"]
    model = apply(workflow, model, encoded, "sdxl", "style", (APPLYING, 300), layers=layers["layers"])
    sample_and_save(workflow, "sdxl", loaded, model, encoded, empty_latent(workflow, "sdxl", (APPLYING, 740)))
    workflow.note(notes.LAYER_WEIGHTS, (SAMPLING, 760), (780, 320))
    frames(workflow, instruct=890)


def sampler_custom_advanced(workflow: Workflow) -> None:
    """Use the sampler in parts: noise, guider, sampler, sigmas."""
    how, loaded = SAMPLINGS[FAMILY], load(workflow, FAMILY)
    encoded = encode(workflow, loaded, "composition", PROMPTS["composition"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "composition")
    guided = {"model": model, "positive": encoded["positive"], "negative": encoded["negative"], "cfg": cfg_of(FAMILY)}
    along = {"model": model, "scheduler": how.scheduler, "steps": how.steps}
    parts_of_it = {
        "noise": workflow.add("RandomNoise", (SAMPLING, TOP), (320, 110), noise_seed=SEED)["NOISE"],
        "guider": workflow.add("CFGGuider", (SAMPLING, 250), (320, 130), **guided)["GUIDER"],
        "sampler": workflow.add("KSamplerSelect", (SAMPLING, 430), (320, 80), sampler_name=how.sampler)["SAMPLER"],
        "sigmas": workflow.add("BasicScheduler", (SAMPLING, 560), (320, 140), **along)["SIGMAS"],
        "latent_image": empty_latent(workflow, FAMILY),
    }
    samples = workflow.add("SamplerCustomAdvanced", (SAVING, TOP), (400, 140), **parts_of_it)["output"]
    pictures = workflow.add("VAEDecode", (SAVING, 280), (400, 60), samples=samples, vae=loaded.checkpoint["VAE"])
    save(workflow, pictures["IMAGE"], (SAVING, 390), 440)
    workflow.note(notes.SAMPLER_CUSTOM_ADVANCED, (READING, 760), (820, 290))
    frames(workflow, sample=860)


def heat_map(workflow: Workflow) -> None:
    """Show where the new picture looks at the reference, beside the picture."""
    loaded = load(workflow, FAMILY)
    encoded = encode(workflow, loaded, "face", PROMPTS["face"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "face")
    watched = workflow.add("IPAdapterInstructWatch", (APPLYING, 550), (360, 60), model=model)
    latent = empty_latent(workflow, FAMILY, (APPLYING, 690))
    pictures = sample_and_decode(workflow, FAMILY, loaded, watched["model"], encoded, latent)
    shown = workflow.add(
        "IPAdapterInstructHeatMap", (SAMPLING, 590), (320, 210), watch=watched["watch"], image=pictures
    )
    save(workflow, pictures, height=330)
    workflow.add("PreviewImage", (SAVING, 470), (400, 330), images=shown["overlay"])
    workflow.note(notes.HEAT_MAP, (READING, 890), (820, 300))
    frames(workflow, instruct=840, sample=840)


def task_settings(workflow: Workflow) -> None:
    """Let Instruct Task fill Encode, Apply and the sampler."""
    loaded = load(workflow, FAMILY)
    task = workflow.add(
        "IPAdapterInstructTask",
        (READING, TOP),
        (400, 230),
        adapter=loaded.adapter["adapter"],
        task="style",
        phrasing="random",
        seed=SEED,
    )
    encoded = encode(workflow, loaded, task["instruction"], PROMPTS["style"], pos=(READING, 400))
    settings = {name: task[name] for name in ("weight", "guidance", "instruct_guidance", "image_guidance")}
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "style", **settings)
    latent = empty_latent(workflow, FAMILY)
    sample_and_save(workflow, FAMILY, loaded, model, encoded, latent, cfg=task["cfg"])
    workflow.note(notes.TASK_SETTINGS, (SAMPLING, 760), (780, 320))
    frames(workflow, instruct=860)
