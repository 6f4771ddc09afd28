"""The recipe of each workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from shipped import notes
from shipped.controls import (
    heat_map,
    instruction_schedule,
    layer_weights,
    sampler_custom_advanced,
    task_settings,
    weight_over_time,
)
from shipped.files import CONTROLNET
from shipped.graph import Workflow
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LOADING,
    PICTURE_STEP,
    PICTURE_TOP,
    PROMPTS,
    READING,
    SAMPLING,
    SAMPLINGS,
    apply,
    empty_latent,
    encode,
    finish,
    frames,
    load,
    picture,
    sample_and_save,
    scaled,
    square,
)
from shipped.plain import compare_adapters, faceid_embeddings
from shipped.reading import detail_tiles, negative_instruction, object_cut_out, stored_embeds
from shipped.references import batch_of_references, regions, several_references
from shipped.sheets import five_instructions, grid
from shipped.training import train_instruction

FAMILY = "sd15"
SECOND_PICTURE = (LOADING, PICTURE_TOP + PICTURE_STEP)
BELOW = 870  # a further row of nodes beside the second picture


def family_workflow(workflow: Workflow, family: str) -> None:
    """Take one picture and one task, as the authors set it."""
    task = "pose" if family == "sdxl" else "composition"
    finish(workflow, load(workflow, family), family, task)
    workflow.note(notes.family_note(family), (READING, 750), (820, 480))
    frames(workflow)


def style_and_composition(workflow: Workflow) -> None:
    """Take two pictures, each with its own instruction, one Apply behind the other."""
    loaded = load(workflow, FAMILY, "Picture for the composition")
    styled = replace(loaded, picture=picture(workflow, SECOND_PICTURE, "Picture for the style"))
    texts = PROMPTS["composition"]
    first = encode(workflow, loaded, "composition", texts)
    second = encode(workflow, styled, "style", texts, pos=(READING, BELOW_ENCODE))
    model = apply(workflow, loaded.checkpoint["MODEL"], first, FAMILY, "composition")
    model = apply(workflow, model, second, FAMILY, "style", pos=(APPLYING, BELOW_ENCODE))
    sample_and_save(workflow, FAMILY, loaded, model, first, empty_latent(workflow, FAMILY, (SAMPLING, 600)))
    workflow.note(notes.STYLE_AND_COMPOSITION, (SAMPLING, 850), (780, 320))
    frames(workflow, load=1440, instruct=1000, sample=760)


def with_controlnet(workflow: Workflow) -> None:
    """Take the style from one picture, and the edges from another."""
    loaded = load(workflow, FAMILY, "Picture for the style")
    shape = picture(workflow, SECOND_PICTURE, "Picture for the edges")
    encoded = encode(workflow, loaded, "style", PROMPTS["style"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "style")
    control = workflow.add(
        "ControlNetLoader",
        (READING, BELOW),
        (400, 90),
        models=[CONTROLNET],
        control_net_name=CONTROLNET["name"],
    )
    edges = workflow.add("Canny", (READING, BELOW + 140), (400, 110), image=shape["IMAGE"])
    controlled = workflow.add(
        "ControlNetApplyAdvanced",
        (APPLYING, BELOW),
        (360, 250),
        positive=encoded["positive"],
        negative=encoded["negative"],
        control_net=control["CONTROL_NET"],
        image=edges["IMAGE"],
        strength=0.8,
        end_percent=0.8,
    )
    sample_and_save(workflow, FAMILY, loaded, model, controlled, empty_latent(workflow, FAMILY))
    workflow.note(notes.WITH_CONTROLNET, (SAMPLING, 780), (780, 300))
    workflow.group("ControlNet", 440, 780, 860, 400)
    frames(workflow, load=1440)


def inpainting(workflow: Workflow) -> None:
    """Put new content inside a mask, taken from a reference; the rest stays."""
    loaded = load(workflow, FAMILY)
    start = picture(workflow, SECOND_PICTURE, "Picture to change")
    encoded = encode(workflow, loaded, "face", PROMPTS["face"])
    model = apply(workflow, loaded.checkpoint["MODEL"], encoded, FAMILY, "face")
    pixels = scaled(workflow, start["IMAGE"], SAMPLINGS[FAMILY].side, (READING, BELOW))
    latent = workflow.add("VAEEncode", (APPLYING, BELOW), (360, 60), pixels=pixels, vae=loaded.checkpoint["VAE"])
    places = (READING, BELOW + 230), (READING, BELOW + 420), (APPLYING, BELOW + 230)
    mask = square(workflow, places, ("Keep", "Change", "Instead of a mask drawn by hand"))
    masked = workflow.add("SetLatentNoiseMask", (APPLYING, BELOW + 110), (360, 60), samples=latent["LATENT"], mask=mask)
    sample_and_save(workflow, FAMILY, loaded, model, encoded, masked["LATENT"])
    workflow.note(notes.INPAINTING, (SAMPLING, 780), (780, 320))
    workflow.group("The picture to change, and where", 440, 780, 860, 680)
    frames(workflow, load=1450)


RECIPES: Mapping[str, Callable[[Workflow], None]] = {
    **{f"instruct_{name}": (lambda w, name=name: family_workflow(w, name)) for name in SAMPLINGS},
    "five_instructions": five_instructions,
    "style_and_composition": style_and_composition,
    "several_references": several_references,
    "batch_of_references": batch_of_references,
    "regions": regions,
    "object_cut_out": object_cut_out,
    "detail_tiles": detail_tiles,
    "negative_instruction": negative_instruction,
    "stored_embeds": stored_embeds,
    "with_controlnet": with_controlnet,
    "inpainting": inpainting,
    "sampler_custom_advanced": sampler_custom_advanced,
    "weight_over_time": weight_over_time,
    "instruction_schedule": instruction_schedule,
    "layer_weights": layer_weights,
    "task_settings": task_settings,
    "grid": grid,
    "heat_map": heat_map,
    "compare_adapters": compare_adapters,
    "faceid_embeddings": faceid_embeddings,
    "train_instruction": train_instruction,
}
