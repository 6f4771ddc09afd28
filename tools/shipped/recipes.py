"""The recipe of each workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from shipped import notes
from shipped.controls import (
    grid,
    heat_map,
    instruction_schedule,
    layer_weights,
    task_settings,
    three_scales,
    weight_over_time,
)
from shipped.files import CONTROLNET, LORA
from shipped.graph import Workflow
from shipped.parts import (
    APPLYING,
    GUIDER,
    LOADING,
    NEGATIVE,
    OBJECT,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    TOP,
    apply,
    decode_and_save,
    empty_latent,
    encode,
    frames,
    load,
    one_reference,
    picture,
    recommended,
    sample,
    sample_in_parts,
    scaled,
    tasks,
)
from shipped.plain import compare_adapters, faceid_embeddings
from shipped.reading import detail_tiles, negative_instruction, object_cut_out, stored_embeds
from shipped.references import batch_of_references, blend_instructions, regions, several_references
from shipped.sheets import five_instructions
from shipped.teaching import teach_instruction


def family_workflow(workflow: Workflow, family: str) -> None:
    task = "pose" if family == "sdxl" else "composition"
    one_reference(workflow, family, task, f"use the {task}", notes.family_note(family), 480)


def task_workflow(workflow: Workflow, task: str) -> None:
    row = next(t for t in tasks.TASKS if t.name == task)
    instruction = OBJECT if task == "object" else row.instruction
    one_reference(workflow, "sd15", task, instruction, notes.task_note(row))


def style_and_composition(workflow: Workflow) -> None:
    """Take two pictures, each with its own instruction, one Apply behind the other."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15", "Picture for the composition")
    styled = replace(loaded, picture=picture(workflow, (LOADING, TOP + 780), "Picture for the style"))
    texts = PROMPTS["composition"]
    first = encode(workflow, loaded, "use the composition", texts)
    second = encode(workflow, styled, "use the style", texts, pos=(READING, 650))
    composed = apply(workflow, loaded.checkpoint["MODEL"], first, "sd15", "composition")
    model = apply(workflow, composed["MODEL"], second, "sd15", "style", pos=(APPLYING, 650))["MODEL"]
    latent = empty_latent(workflow, how, (SAMPLING, 600))
    samples = sample(workflow, how, recommended("sd15", "composition").cfg, model, first, latent)
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.STYLE_AND_COMPOSITION, (SAMPLING, 850), (780, 320))
    workflow.group("Load", 20, 10, 400, 1320)
    workflow.group("Instruct", 440, 10, 860, 1180)
    workflow.group("Sample and save", 1320, 10, 820, 760)


def with_controlnet(workflow: Workflow) -> None:
    """Take the style from one picture, and the edges from another."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15", "Picture for the style")
    shape = picture(workflow, (LOADING, TOP + 780), "Picture for the edges")
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd15", "style")["MODEL"]
    control = workflow.add(
        "ControlNetLoader",
        (READING, 870),
        (400, 90),
        models=[CONTROLNET],
        control_net_name=CONTROLNET["name"],
    )
    edges = workflow.add("Canny", (READING, 1010), (400, 110), image=shape["IMAGE"])
    controlled = workflow.add(
        "ControlNetApplyAdvanced",
        (APPLYING, 870),
        (360, 250),
        positive=encoded["positive"],
        negative=encoded["negative"],
        control_net=control["CONTROL_NET"],
        image=edges["IMAGE"],
        strength=0.8,
        end_percent=0.8,
    )
    latent = empty_latent(workflow, how)
    samples = sample(workflow, how, recommended("sd15", "style").cfg, model, controlled, latent)
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.WITH_CONTROLNET, (SAMPLING, 780), (780, 300))
    workflow.group("ControlNet", 440, 780, 860, 400)
    frames(workflow, 1320)


def with_lora(workflow: Workflow) -> None:
    """Put a LoRA before Apply; this one needs eight steps."""
    how = replace(SAMPLINGS["sd15"], steps=8, sampler="ddim", scheduler="sgm_uniform")
    loaded = load(workflow, "sd15")
    lora = workflow.add(
        "LoraLoader",
        (READING, TOP),
        (400, 170),
        models=[LORA],
        model=loaded.checkpoint["MODEL"],
        clip=loaded.checkpoint["CLIP"],
        lora_name=LORA["name"],
    )
    encoded = encode(workflow, loaded, "use the style", PROMPTS["style"], pos=(READING, 310))
    model = apply(workflow, lora["MODEL"], encoded, "sd15", "style")["MODEL"]
    latent = empty_latent(workflow, how)
    samples = sample(workflow, how, recommended("sd15", "style").cfg, model, encoded, latent)
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.WITH_LORA, (APPLYING, 910), (780, 320))
    frames(workflow, height=840)


def image_to_image(workflow: Workflow) -> None:
    """Start from a picture instead of noise, in the style of another."""
    how = replace(SAMPLINGS["sd15"], denoise=0.6)
    loaded = load(workflow, "sd15", "Picture for the style")
    start = picture(workflow, (LOADING, TOP + 780), "Picture to change")
    encoded = encode(workflow, loaded, "use the style", ("a woman in a suit, standing in a hall", NEGATIVE))
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd15", "style")["MODEL"]
    pixels = scaled(workflow, start["IMAGE"], how.side, (READING, 870))
    latent = workflow.add("VAEEncode", (APPLYING, 870), (360, 60), pixels=pixels, vae=loaded.checkpoint["VAE"])
    samples = sample(workflow, how, recommended("sd15", "style").cfg, model, encoded, latent["LATENT"])
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.IMAGE_TO_IMAGE, (SAMPLING, 780), (780, 300))
    workflow.group("The picture to start from", 440, 780, 860, 300)
    frames(workflow, 1320)


def inpainting(workflow: Workflow) -> None:
    """Put new content inside a mask, taken from a reference; the rest stays."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15", "Reference picture")
    start = picture(workflow, (LOADING, TOP + 780), "Picture to change")
    encoded = encode(workflow, loaded, "use the face", PROMPTS["face"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd15", "face")["MODEL"]
    pixels = scaled(workflow, start["IMAGE"], how.side, (READING, 870))
    latent = workflow.add("VAEEncode", (APPLYING, 870), (360, 60), pixels=pixels, vae=loaded.checkpoint["VAE"])
    keep = workflow.add("SolidMask", (READING, 1100), (400, 130), "Keep", value=0.0, width=how.side, height=how.side)
    change = workflow.add("SolidMask", (READING, 1290), (400, 130), "Change", width=256, height=256)
    mask = workflow.add(
        "MaskComposite",
        (APPLYING, 1100),
        (360, 180),
        destination=keep["MASK"],
        source=change["MASK"],
        x=128,
        y=64,
        operation="add",
    )
    masked = workflow.add("SetLatentNoiseMask", (APPLYING, 980), (360, 60), samples=latent["LATENT"], mask=mask["MASK"])
    samples = sample(workflow, how, recommended("sd15", "face").cfg, model, encoded, masked["LATENT"])
    decode_and_save(workflow, samples, loaded.checkpoint["VAE"])
    workflow.note(notes.INPAINTING, (SAMPLING, 780), (780, 320))
    workflow.group("The picture to change, and where", 440, 780, 860, 680)
    frames(workflow, 1320)


def sampler_custom_advanced(workflow: Workflow) -> None:
    """Use the sampler in parts: noise, guider, sampler, sigmas."""
    how = SAMPLINGS["sd15"]
    loaded = load(workflow, "sd15")
    encoded = encode(workflow, loaded, "use the composition", PROMPTS["composition"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, "sd15", "composition")["MODEL"]
    guider = workflow.add(
        "CFGGuider",
        GUIDER,
        (320, 130),
        model=model,
        positive=encoded["positive"],
        negative=encoded["negative"],
        cfg=recommended("sd15", "composition").cfg,
    )
    sample_in_parts(workflow, how, model, guider, empty_latent(workflow, how), loaded.checkpoint["VAE"], 430)
    workflow.note(notes.SAMPLER_CUSTOM_ADVANCED, (READING, 760), (820, 270))
    workflow.group("Load", 20, 10, 400, 900)
    workflow.group("Instruct", 440, 10, 860, 680)
    workflow.group("Sample and save", 1320, 10, 820, 860)


RECIPES: Mapping[str, Callable[[Workflow], None]] = {
    **{f"instruct_{name}": (lambda w, name=name: family_workflow(w, name)) for name in SAMPLINGS},
    **{f"task_{task.name}": (lambda w, name=task.name: task_workflow(w, name)) for task in tasks.TASKS},
    "style_and_composition": style_and_composition,
    "with_controlnet": with_controlnet,
    "with_lora": with_lora,
    "image_to_image": image_to_image,
    "inpainting": inpainting,
    "sampler_custom_advanced": sampler_custom_advanced,
    "several_references": several_references,
    "blend_instructions": blend_instructions,
    "batch_of_references": batch_of_references,
    "regions": regions,
    "negative_instruction": negative_instruction,
    "object_cut_out": object_cut_out,
    "detail_tiles": detail_tiles,
    "stored_embeds": stored_embeds,
    "weight_over_time": weight_over_time,
    "instruction_schedule": instruction_schedule,
    "layer_weights": layer_weights,
    "three_scales": three_scales,
    "task_settings": task_settings,
    "grid": grid,
    "five_instructions": five_instructions,
    "heat_map": heat_map,
    "compare_adapters": compare_adapters,
    "faceid_embeddings": faceid_embeddings,
    "teach_instruction": teach_instruction,
}
