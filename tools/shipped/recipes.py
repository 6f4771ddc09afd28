"""The recipe of each workflow. Here are those of the families, and those where the adapter joins other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from shipped import adapters, controls, reading, references, sheets
from shipped.columns import APPLYING, BELOW_ENCODE, READING, SAMPLING, SECOND_PICTURE
from shipped.files import CONTROLNET
from shipped.parts import LATENTS, PROMPTS, InstructWorkflow

BELOW = 870  # a further row of nodes beside the second picture


def family_workflow(family: str, workflow: InstructWorkflow) -> None:
    """Take one picture and one task, as the authors set it."""
    workflow.family = family
    workflow.load()
    encoded = workflow.encode("pose" if family == "sdxl" else "composition")
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.explain((READING, 750), (820, 480))
    workflow.frames()


def style_and_composition(workflow: InstructWorkflow) -> None:
    """Take two pictures, each with its own instruction, one Apply behind the other."""
    workflow.load("Picture for the composition")
    styled = workflow.load_picture(SECOND_PICTURE, "Picture for the style")
    texts = PROMPTS["composition"]
    first = workflow.encode("composition", texts)
    second = workflow.encode("style", texts, (READING, BELOW_ENCODE), image=styled)
    model = workflow.apply(second, (APPLYING, BELOW_ENCODE), model=workflow.apply(first))
    workflow.sample_and_save(model, first, workflow.empty_latent((SAMPLING, 600)))
    workflow.explain((SAMPLING, 850), (780, 320))
    workflow.frames(load=1440, instruct=1000, sample=760)


def with_controlnet(workflow: InstructWorkflow) -> None:
    """Take the style from one picture, and the edges from another."""
    workflow.load("Picture for the style")
    shape = workflow.load_picture(SECOND_PICTURE, "Picture for the edges")
    encoded = workflow.encode("style")
    model = workflow.apply(encoded)
    chosen = {"models": [CONTROLNET], "control_net_name": CONTROLNET["name"]}
    control_net = workflow.add("ControlNetLoader", (READING, BELOW), (400, 90), **chosen)["CONTROL_NET"]
    edges = workflow.add("Canny", (READING, BELOW + 140), (400, 110), image=shape)["IMAGE"]
    controlled = workflow.add(
        "ControlNetApplyAdvanced",
        (APPLYING, BELOW),
        (360, 250),
        positive=encoded["positive"],
        negative=encoded["negative"],
        control_net=control_net,
        image=edges,
        strength=0.8,
        end_percent=0.8,
    )
    workflow.sample_and_save(model, controlled)
    workflow.explain((SAMPLING, 780), (780, 300))
    workflow.group("ControlNet", 440, 780, 860, 400)
    workflow.frames(load=1440)


def inpainting(workflow: InstructWorkflow) -> None:
    """Put new content inside a mask, taken from a reference; the rest stays."""
    workflow.load()
    start = workflow.load_picture(SECOND_PICTURE, "Picture to change")
    encoded = workflow.encode("face")
    model = workflow.apply(encoded)
    _, side = LATENTS[workflow.family]
    pixels = workflow.square(start, side, (READING, BELOW))
    vae = workflow.checkpoint["VAE"]
    latent = workflow.add("VAEEncode", (APPLYING, BELOW), (360, 60), pixels=pixels, vae=vae)["LATENT"]
    places = (READING, BELOW + 230), (READING, BELOW + 420), (APPLYING, BELOW + 230)
    mask = workflow.square_mask(places, ("Keep", "Change"))
    masked = workflow.add("SetLatentNoiseMask", (APPLYING, BELOW + 110), (360, 60), samples=latent, mask=mask)
    workflow.sample_and_save(model, encoded, masked["LATENT"])
    workflow.explain((SAMPLING, 780), (780, 320))
    workflow.group("The picture to change, and where", 440, 780, 860, 680)
    workflow.frames(load=1450)


BUILDERS = (
    *(style_and_composition, with_controlnet, inpainting),
    *references.BUILDERS,
    *reading.BUILDERS,
    *controls.BUILDERS,
    *sheets.BUILDERS,
    *adapters.BUILDERS,
)
RECIPES: Mapping[str, Callable[[InstructWorkflow], None]] = {
    **{f"instruct_{family}": partial(family_workflow, family) for family in LATENTS},
    **{build.__name__: build for build in BUILDERS},
}
