"""The workflows about when, how much, in which layers, and seeing it."""

from __future__ import annotations

from shipped.columns import APPLYING, BELOW_ENCODE, READING, SAMPLING, SAVING, TOP
from shipped.parts import PROMPTS, SAMPLERS, SEED, InstructWorkflow


def weight_over_time(workflow: InstructWorkflow) -> None:
    """Let the picture act at the beginning, and the prompt alone at the end."""
    workflow.load()
    factors = {"factors": "0: 1\n0.3: 1\n0.5: 0", "between": "linear"}
    schedule = workflow.add("IPAdapterInstructSchedule", (APPLYING, TOP), (360, 300), **factors)["schedule"]
    encoded = workflow.encode("composition")
    model = workflow.apply(encoded, (APPLYING, 440), schedule=schedule)
    workflow.sample_and_save(model, encoded, workflow.empty_latent((APPLYING, 860)))
    workflow.explain()
    workflow.frames(instruct=1000)


def instruction_schedule(workflow: InstructWorkflow) -> None:
    """Take the composition until a moment, and the style from then on."""
    workflow.load()
    texts = PROMPTS["composition"]
    first = workflow.encode("composition", texts)
    second = workflow.encode("style", texts, (READING, BELOW_ENCODE))
    both = {"embeds_1": first["embeds"], "embeds_2": second["embeds"], "method": "then", "at_percent": 0.35}
    in_turn = workflow.add("IPAdapterInstructCombine", (APPLYING, TOP), (360, 190), **both)
    model = workflow.apply(in_turn, (APPLYING, 340))
    workflow.sample_and_save(model, first, workflow.empty_latent((APPLYING, 770)))
    workflow.explain()
    workflow.frames(instruct=1000)


def layer_weights(workflow: InstructWorkflow) -> None:
    """Weigh the layers of SDXL, where one layer carries the style."""
    workflow.family = "sdxl"
    workflow.load()
    kind, pos = "IPAdapterInstructLayers", (APPLYING, TOP)
    layers = workflow.add(kind, pos, (360, 130), weight_type="strong style transfer")["layers"]
    encoded = workflow.encode("style")
    model = workflow.apply(encoded, (APPLYING, 300), layers=layers)
    workflow.sample_and_save(model, encoded, workflow.empty_latent((APPLYING, 740)))
    workflow.explain()
    workflow.frames(instruct=890)


def sampler_custom_advanced(workflow: InstructWorkflow) -> None:
    """Use the sampler in parts: noise, guider, sampler, sigmas."""
    workflow.load()
    encoded = workflow.encode("composition")
    model = workflow.apply(encoded)
    how, cfg = SAMPLERS[workflow.family], workflow.settings.cfg
    guided = {"model": model, "positive": encoded["positive"], "negative": encoded["negative"], "cfg": cfg}
    chosen = {"sampler_name": how["sampler_name"]}
    along = {"model": model, "scheduler": how["scheduler"], "steps": how["steps"]}
    parts = {
        "noise": workflow.add("RandomNoise", (SAMPLING, TOP), (320, 110), noise_seed=SEED)["NOISE"],
        "guider": workflow.add("CFGGuider", (SAMPLING, 250), (320, 130), **guided)["GUIDER"],
        "sampler": workflow.add("KSamplerSelect", (SAMPLING, 430), (320, 80), **chosen)["SAMPLER"],
        "sigmas": workflow.add("BasicScheduler", (SAMPLING, 560), (320, 140), **along)["SIGMAS"],
        "latent_image": workflow.empty_latent(),
    }
    samples = workflow.add("SamplerCustomAdvanced", (SAVING, TOP), (400, 140), **parts)["output"]
    workflow.save(workflow.decode(samples, (SAVING, 280), 400), (SAVING, 390), 440)
    workflow.explain((READING, 760), (820, 290))
    workflow.frames(sample=860)


def heat_map(workflow: InstructWorkflow) -> None:
    """Show where the new picture looks at the reference, beside the picture."""
    workflow.load()
    encoded = workflow.encode("face")
    watched = workflow.add("IPAdapterInstructWatch", (APPLYING, 550), (360, 60), model=workflow.apply(encoded))
    pictures = workflow.sample(watched["model"], encoded, workflow.empty_latent((APPLYING, 690)))
    seen = {"watch": watched["watch"], "image": pictures}
    shown = workflow.add("IPAdapterInstructHeatMap", (SAMPLING, 590), (320, 210), **seen)
    workflow.save(pictures, height=330)
    workflow.add("PreviewImage", (SAVING, 470), (400, 330), images=shown["overlay"])
    workflow.explain((READING, 890), (820, 300))
    workflow.frames(instruct=840, sample=840)


def task_settings(workflow: InstructWorkflow) -> None:
    """Let Instruct Task fill Encode, Apply and the sampler."""
    workflow.load()
    asked = {"adapter": workflow.adapter["adapter"], "task": "style", "phrasing": "random", "seed": SEED}
    task = workflow.add("IPAdapterInstructTask", (READING, TOP), (400, 230), **asked)
    encoded = workflow.encode(task["instruction"], PROMPTS["style"], (READING, 400))
    settings = {name: task[name] for name in ("weight", "guidance", "instruct_guidance", "image_guidance")}
    workflow.sample_and_save(workflow.apply(encoded, **settings), encoded, cfg=task["cfg"])
    workflow.explain()
    workflow.frames(instruct=860)


BUILDERS = (
    weight_over_time,
    instruction_schedule,
    layer_weights,
    sampler_custom_advanced,
    heat_map,
    task_settings,
)
