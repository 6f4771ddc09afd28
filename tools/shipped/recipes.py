"""The recipe of each workflow. Here are those of the families, those where the adapter joins other nodes, those about
when, how much, in which layers, and seeing it, and the grids."""

from collections.abc import Callable, Mapping
from functools import partial

from shipped import newer, pair_recipes, references
from shipped.graph import Node, saved_values
from shipped.notes import CONTROLNETS
from shipped.parts import (
    APPLYING,
    BELOW_ENCODE,
    LATENTS,
    PROMPTS,
    READING,
    SAMPLERS,
    SAMPLING,
    SAVING,
    SECOND_PICTURE,
    SEED,
    TOP,
    InstructWorkflow,
    families,
)

BELOW = 870  # a further row of nodes beside the second picture
GRID_TASK = "style"
INSTRUCTIONS = ("use everything", "use the style", "use the colour", "use the composition", "use the object")
CELL = 256
LEFT = SAMPLING + 20  # of what stands beside a grid
APP_INPUTS = (  # of which node, which widget, and what the app says of it
    ("LoadImage", "image", "The picture to take it from"),
    ("IPAdapterInstructEncode", "task", "What to take"),
    ("IPAdapterInstructEncode", "prompt", "What the new picture shows"),
    ("IPAdapterInstructApply", "weight", "How strongly: 0 not at all, 1 fully"),
    ("IPAdapterInstructEncode", "instruction", "What to take, for own words"),
)


def family_workflow(family: families.Family, workflow: InstructWorkflow) -> None:
    """Take one picture and one task, as the authors set it."""
    workflow.family = family
    workflow.load()
    encoded = workflow.encode("pose" if family is families.SDXL else "composition")
    workflow.sample_and_save(workflow.apply(encoded), encoded)
    workflow.finish((READING, 750), (820, 480))


def app(workflow: InstructWorkflow) -> None:
    """Show of a family's workflow only what one sets and what comes out: the page's app mode, if it has it.

    Its seed changes from run to run: nothing else tells one run from the next there.
    """
    family_workflow(families.SD15, workflow)
    nodes = {node["type"]: node for node in workflow.nodes}
    nodes["KSampler"] |= saved_values(
        {**nodes["KSampler"]["widgets_values_named"], "control_after_generate": "randomize"}
    )
    inputs = [[nodes[kind]["id"], widget, {"description": words}] for kind, widget, words in APP_INPUTS]
    shown = {"inputs": inputs, "outputs": [nodes["SaveImage"]["id"]]}
    workflow.extra = {"linearMode": True, "linearData": shown}


def style_and_composition(workflow: InstructWorkflow) -> None:
    """Take two pictures, each with its own instruction, one Apply behind the other."""
    workflow.load("Picture for the composition")
    styled = workflow.load_picture(SECOND_PICTURE, "Picture for the style")
    first = workflow.encode("composition")
    second = workflow.encode("style", "composition", (READING, BELOW_ENCODE), image=styled)
    model = workflow.apply(second, (APPLYING, BELOW_ENCODE), model=workflow.apply(first))
    workflow.sample_and_save(model, first, workflow.empty_latent((SAMPLING, 600)))
    workflow.finish((SAMPLING, 850), (780, 320), load=1470, instruct=1000, sample=760)


def with_controlnet(workflow: InstructWorkflow) -> None:
    """Take the style from one picture, and the edges from another."""
    workflow.load("Picture for the style")
    shape = workflow.load_picture(SECOND_PICTURE, "Picture for the edges")
    encoded = workflow.encode("style")
    model = workflow.apply(encoded)
    control_net = workflow.load_controlnet(CONTROLNETS["canny"], (READING, BELOW))
    edges = workflow.add("Canny", (READING, BELOW + 140), (400, 110), image=shape)
    joined = {"positive": encoded, "negative": encoded, "control_net": control_net, "image": edges}
    joined |= {"strength": 0.8, "end_percent": 0.8}
    controlled = workflow.add("ControlNetApplyAdvanced", (APPLYING, BELOW), (360, 250), **joined)
    workflow.sample_and_save(model, controlled)
    workflow.group("ControlNet", 440, 780, 860, 400)
    workflow.finish((SAMPLING, 780), (780, 300), load=1470)


def inpainting(workflow: InstructWorkflow) -> None:
    """Put new content inside a mask, taken from a reference; the rest stays."""
    workflow.load()
    start = workflow.load_picture(SECOND_PICTURE, "Picture to change")
    encoded = workflow.encode("face")
    model = workflow.apply(encoded)
    _, side = LATENTS[workflow.family.name]
    pixels = workflow.square(start, side, (READING, BELOW))
    latent = workflow.add("VAEEncode", (APPLYING, BELOW), (360, 60), pixels=pixels)
    places = (READING, BELOW + 230), (READING, BELOW + 420), (APPLYING, BELOW + 230)
    mask = workflow.square_mask(places, ("Keep", "Change"))
    masked = workflow.add("SetLatentNoiseMask", (APPLYING, BELOW + 110), (360, 60), samples=latent, mask=mask)
    workflow.sample_and_save(model, encoded, masked)
    workflow.group("The picture to change, and where", 440, 780, 860, 680)
    workflow.finish((SAMPLING, 780), (780, 320), load=1480)


def weight_over_time(workflow: InstructWorkflow) -> None:
    """Let the picture act at the beginning, and the prompt alone at the end."""
    workflow.load()
    factors = {"factors": "0: 1\n0.3: 1\n0.5: 0", "between": "linear"}
    schedule = workflow.add("IPAdapterInstructSchedule", (APPLYING, TOP), (360, 300), **factors)
    encoded = workflow.encode("composition")
    model = workflow.apply(encoded, (APPLYING, 440), schedule=schedule)
    workflow.sample_and_save(model, encoded, workflow.empty_latent((APPLYING, 860)))
    workflow.finish(instruct=1000)


def instruction_schedule(workflow: InstructWorkflow) -> None:
    """Take the composition until a moment, and the style from then on."""
    workflow.load()
    first = workflow.encode("composition")
    second = workflow.encode("style", "composition", (READING, BELOW_ENCODE))
    both = {"embeds_1": first, "embeds_2": second, "method": "then", "at_percent": 0.35}
    in_turn = workflow.add("IPAdapterInstructCombine", (APPLYING, TOP), (360, 190), **both)
    model = workflow.apply(in_turn, (APPLYING, 340))
    workflow.sample_and_save(model, first, workflow.empty_latent((APPLYING, 770)))
    workflow.finish(instruct=1000)


def layer_weights(workflow: InstructWorkflow) -> None:
    """Weigh the layers of SDXL, where one layer carries the style."""
    workflow.family = families.SDXL
    workflow.load()
    chosen = "strong style transfer"
    layers = workflow.add("IPAdapterInstructLayers", (APPLYING, TOP), (360, 130), weight_type=chosen)
    encoded = workflow.encode("style")
    model = workflow.apply(encoded, (APPLYING, 300), layers=layers)
    workflow.sample_and_save(model, encoded, workflow.empty_latent((APPLYING, 740)))
    workflow.finish(instruct=890)


def sampler_custom_advanced(workflow: InstructWorkflow) -> None:
    """Use the sampler in parts: noise, guider, sampler, sigmas."""
    workflow.load()
    encoded = workflow.encode("composition")
    model = workflow.apply(encoded)
    how = dict(SAMPLERS[workflow.family.name])
    guided = {"positive": encoded, "negative": encoded, "cfg": workflow.family.settings.cfg}
    chosen = {"sampler_name": how.pop("sampler_name")}
    parts = {
        "noise": workflow.add("RandomNoise", (SAMPLING, TOP), (320, 110), noise_seed=SEED),
        "guider": workflow.add("CFGGuider", (SAMPLING, 250), (320, 130), model=model, **guided),
        "sampler": workflow.add("KSamplerSelect", (SAMPLING, 430), (320, 80), **chosen),
        "sigmas": workflow.add("BasicScheduler", (SAMPLING, 560), (320, 140), model=model, **how),
        "latent_image": workflow.empty_latent(),
    }
    sampled = workflow.add("SamplerCustomAdvanced", (SAVING, TOP), (400, 140), **parts)
    pictures = workflow.add("VAEDecode", (SAVING, 280), (400, 60), samples=sampled["output"])
    workflow.save(pictures, (SAVING, 390), 440)
    workflow.finish((READING, 760), (820, 290), sample=860)


def heat_map(workflow: InstructWorkflow) -> None:
    """Show where the new picture looks at the reference, beside the picture."""
    workflow.load()
    encoded = workflow.encode("face")
    watched = workflow.add("IPAdapterInstructWatch", (APPLYING, 550), (360, 60), model=workflow.apply(encoded))
    pictures = workflow.sample(watched, encoded, workflow.empty_latent((APPLYING, 690)))
    shown = workflow.add("IPAdapterInstructHeatMap", (SAMPLING, 590), (320, 210), watch=watched, image=pictures)
    workflow.save(pictures, height=330)
    workflow.add("PreviewImage", (SAVING, 470), (400, 330), images=shown["overlay"])
    workflow.finish((READING, 890), (820, 300), instruct=840, sample=840)


def task_settings(workflow: InstructWorkflow) -> None:
    """Let Instruct Task fill Encode, Apply and the sampler."""
    workflow.load()
    asked = {"task": "style", "phrasing": "random", "seed": SEED}
    task = workflow.add("IPAdapterInstructTask", (READING, TOP), (400, 230), **asked)
    encoded = workflow.encode(task, "style", (READING, 400))
    settings = dict.fromkeys(("weight", "guidance", "instruct_guidance", "image_guidance"), task)
    workflow.sample_and_save(workflow.apply(encoded, **settings), encoded, cfg=task)
    workflow.finish(instruct=860)


def grid(workflow: InstructWorkflow) -> None:
    """Compare three instructions by three weights."""
    workflow.load()
    rows = {"rows": "instruction", "row_values": "use the style\nuse the colour\nuse everything"}
    cells = instruct_grid(workflow, **rows, columns="weight", column_values="0.4, 0.7, 1")
    workflow.add("SaveImage", (LEFT, TOP), (760, 940), images=cells["grid"], filename_prefix="Instruct-Grid")
    workflow.explain((READING, 280), (400, 560))
    workflow.group("Load", 20, 10, 400, 1040)
    workflow.group("Every row by every column", 440, 10, 900, 1040)
    workflow.group("Save", SAMPLING + 10, 10, 790, 1040)


def five_instructions(workflow: InstructWorkflow) -> None:
    """Put one picture and one prompt through five instructions; on the sheet the picture itself comes first."""
    workflow.load()
    cells = instruct_grid(workflow, rows="nothing", columns="instruction", column_values="\n".join(INSTRUCTIONS))
    shown = workflow.square(workflow.loaded, CELL, (LEFT, TOP), "The picture", 320)
    others = workflow.square(cells["images"], CELL, (LEFT, TOP + 220), "What came of it", 320)
    together = workflow.batch(shown, others, (LEFT, TOP + 440), 320)
    prompt = f"prompt: {PROMPTS[GRID_TASK][0]}"
    sheet = workflow.labelled(together, (LEFT, TOP + 560), ["the picture", *INSTRUCTIONS], prompt)
    workflow.add("SaveImage", (SAVING, TOP), (860, 420), images=sheet, filename_prefix="IPAdapter-Instruct-sheet")
    workflow.explain((READING, 280), (400, 560))
    workflow.group("An instruction a column", READING - 20, 10, 900, 1040)
    workflow.group("Lay out and save", SAMPLING, 10, 1260, 1040)
    workflow.group("Load", 20, 10, 400, 995)


def instruct_grid(workflow: InstructWorkflow, **axes: str) -> Node:
    """Add Instruct Grid, set as the authors do. axes: rows, row_values, columns, column_values."""
    settings, (prompt, negative) = workflow.family.settings, PROMPTS[GRID_TASK]
    linked = {"image": workflow.loaded, "latent": workflow.empty_latent((READING, TOP))}
    made = {"prompt": prompt, "negative_prompt": negative, "weight": settings.weight, "seed": SEED, "cfg": settings.cfg}
    made |= SAMPLERS[workflow.family.name]
    return workflow.add("IPAdapterInstructGrid", (APPLYING, TOP), (400, 940), **linked, **made, **axes)


BUILDERS = (
    *(style_and_composition, with_controlnet, inpainting),
    *(weight_over_time, instruction_schedule, layer_weights, sampler_custom_advanced, heat_map, task_settings),
    *(grid, five_instructions),
    *references.BUILDERS,
    *newer.BUILDERS,
    *pair_recipes.BUILDERS,
)
RECIPES: Mapping[str, Callable[[InstructWorkflow], None]] = {
    **{f"instruct_{family.name}": partial(family_workflow, family) for family in families.FAMILIES},
    "instruct_sd15.app": app,  # so that the page's list of templates has it among the apps
    **{build.__name__: build for build in BUILDERS},
}
EVERYWHERE = [name for name, recipe in RECIPES.items() if recipe not in newer.BUILDERS]  # on any ComfyUI
