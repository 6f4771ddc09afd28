"""The words on the workflows' notes, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from comfyhost.in_process import pack_module

from shipped.files import CHECKPOINTS

families = pack_module("models.families")
tasks = pack_module("models.guidance.tasks")

FILE_REMARKS = {
    CHECKPOINTS["sd15"]["name"]: ", or any SD1.5 model",
    CHECKPOINTS["sdxl"]["name"]: ", or any SDXL model (the refiner is none)",
    CHECKPOINTS["sd3"]["name"]: (
        ". Its [page](https://huggingface.co/stabilityai/stable-diffusion-3-medium) hands it out once you have "
        "logged in and accepted the licence. T5 is not needed."
    ),
}
FAMILY_REMARKS = {
    "sd15": "For composition and pose **auto** takes 0.2 off the weight.",
    "sdxl": (
        "An **image_guidance** of 1 saves one pass of four a step. For the composition they also lower the weight to "
        "0.7 at times."
    ),
    "sd3": 'Here "use the face" is guided three ways.',
}
TAKES = {
    "everything": "the whole picture: a variation that the prompt steers",
    "style": "brush, light and rendering; the prompt says what is shown",
    "colour": "the palette",
    "pose": "how a figure stands or sits, without the figure",
    "composition": "where things are, without the things; try several seeds",
    "face": "a person's features; the face should be large in the picture",
    "foreground": "what is in front (beta); the prompt tells its surroundings",
    "background": "the surroundings (beta); the prompt says who or what is there",
    "object": "one thing; name it in words of your own, and cut it out (object_cut_out)",
}


def text_of(workflow: str, files: Sequence[dict]) -> str:
    """Return the note of a workflow, with the list of files that it needs."""
    lines = [f"- models/{f['directory']}: [{f['name']}]({f['url']}){FILE_REMARKS.get(f['name'], '')}" for f in files]
    return "\n".join([NOTES[workflow], "", "**Files**", "", *dict.fromkeys(lines)])


def family_note(family) -> str:
    """Say what to try with a family's plain workflow."""
    usual = family.settings
    trained = [task for task in tasks.TASKS if family in task.families]
    takes = "\n".join(f"- **{task.name}**: {TAKES[task.name]}" for task in trained)
    stronger = "".join(
        f" ({scale:g} for the {task.name})"
        for names, scale in family.stronger_tasks
        for task in trained
        if task.name in names
    )
    return f"""## IPAdapter-Instruct, {family.title}

A **task** says what to take from the picture:

{takes}

With *own words*, **instruction** says it. Then say in **prompt** what the new picture shows.

*Apply* chooses the guidance for it (auto) and shows what it chose. In *three-way* guidance, raise \
**instruct_guidance** when the prompt is not followed; **cfg** then acts on how the picture is read. In *simple* \
guidance, raise **cfg**.

Too much of the picture: lower the **weight** to 0.6, or **end_percent** to 0.7. Too little: raise it to 1.

**Settings of the authors**: weight {usual.weight:g}, cfg {usual.cfg:g}, **instruct_guidance** \
{usual.instruct_guidance:g}{stronger}, **image_guidance** {usual.image_guidance:g}. {FAMILY_REMARKS[family.name]}"""


NOTES = {
    **{f"instruct_{family.name}": family_note(family) for family in families.FAMILIES},
    "style_and_composition": """## Two pictures, two instructions

The upper one gives the composition, the lower one the style. Each *Apply* adds its picture; the order does not matter.

The composition is guided three ways and sets the scales: raise its **instruct_guidance** to follow the prompt.

Balance them by their weights.""",
    "with_controlnet": """## With a ControlNet

The style comes from one picture, the outlines from another. A ControlNet goes where it always goes: between \
*Encode*'s positive and negative and the sampler.

Lower the ControlNet's end_percent to leave the details to the style.""",
    "inpainting": """## A face from another picture

Only what the mask covers is made anew: here a square. To draw your own, right click the picture to change, *Open in \
MaskEditor*, and connect its MASK to *Set Latent Noise Mask*.

Any task will do; for an object, *own words*: "use the object, a vase".""",
    "several_references": """## Several pictures, an instruction each

*Instruct Reference* gives a picture an instruction and a **weight** beside the others; as many as you like, one \
behind the other. One without an instruction has *Encode*'s task. *Encode* makes one of them for one *Apply*, whose \
weight is for all.

One *Apply* guides them all alike: **auto** looks at the instructions together, which here is simple, with 0.2 off \
the weight for the composition. For a guidance, a mask or a time of its own, give a picture its own *Encode* and \
*Apply*.

Balance the weights; 0 leaves a picture out. **combine** *average* makes something between them.""",
    "batch_of_references": """## A batch of references

**combine** *one per batch index*: the first picture of the batch is made with the first reference, the second with \
the second; **batch_size** says how many are made, and the references begin anew when they are fewer. This is how an \
animation follows a row of pictures.

**batch_factors** on *Schedule Instruct Weight* are factors on *Apply*'s weight, one for each.

Without a second picture of yours, *Image Crop* takes a part of the same: bypass it when you have chosen one.""",
    "regions": """## Left and right

A picture, an instruction and a prompt for each half. **attn_mask** says where an *Apply* acts, and *Conditioning \
(Set Mask)* where a prompt does: connect the same mask to both. The right half is the left one inverted, so that the \
soft edges add up.

Masks of any size and shape will do: draw them in a *Load Image*'s mask editor.

A region with an instruction that is guided three ways sets the scales for the whole picture.""",
    "negative_instruction": """## What to leave behind

**negative_instruction** on *Instruct Reference* says what not to take. Here: the style, and not the layout that tends \
to come with it.

It is read with the picture, and the result stands where guidance moves away from: in *simple* guidance in the uncond \
branch, in *three-way* guidance in the image_only branch. **cfg** is its strength in both. It costs no further pass, \
only one more run of the small resampler while encoding.

This is this pack's own and not in the paper: compare with the field empty. When too much is lost, lower **cfg**.""",
    "object_cut_out": """## An object, cut out

The paper found that taking an object works strikingly better when it is cut out on a coloured background, and the \
encoder sees only 224 pixels a side. *Instruct Prepare Reference* puts what the mask keeps on a colour far from its \
own, and takes a square around it.

**Draw your own mask**: right click the reference picture, *Open in MaskEditor*, paint over the object, and connect \
its MASK to *Instruct Prepare Reference* instead of the square. For a PNG with a transparent background switch \
**invert** on.

It shows the colour that it has drawn: type it into **background** to keep it. Name your object in the \
instruction and in the prompt; the **task** is *own words*.""",
    "detail_tiles": """## More of a large picture

The encoder sees a picture as 224 x 224 pixels. *Instruct Tile Reference* cuts it into squares, 2 x 2 of a square one, \
and gives them together with the whole as several references.

For the detail of a style or a pattern; for composition and pose leave the picture whole. Each tile is a run of the \
image encoder and 16 more tokens. Where it becomes too much, lower the weight.""",
    "stored_embeds": """## Encoded once, used again

**Above**: *Save Instruct Embeds* keeps what *Encode* made, in output/embeds. Later, in place of *Encode*: *Load \
Instruct Embeds* (press R to see the new file), without picture and image encoder. The prompts have acted on it and \
are not in the file: give the sampler the same ones, with *CLIP Text Encode*.

**Below**: *Instruct Reference* takes what *CLIP Vision Encode* saw of the picture, or a file of IPAdapter Plus's \
*Save Embeds*, and *Encode* reads it by any instruction. With crop *center* the result is that of the picture itself, \
bit for bit.

To make a picture with the colour, connect the lower *Encode*'s three outputs to *Apply* and *KSampler* instead.""",
    "train_instruction": """## A new instruction from eight pairs

*Train IPAdapter-Instruct* trains the adapter on eight references with the images that should come out of them, and \
an instruction with each. The new adapter is a file of its own in output/ipadapter; its output can be used at once.

For your own: connect two batches of images, references and targets in the same order (*Batch Images* puts single \
ones together), write the instruction, and what the targets show as captions. Watch the loss and the preview; *Cancel* \
keeps what has been trained by then.

Eight pairs of one image teach little beyond it. Twenty or more, of different images, are better; help (i) says what \
it costs.""",
    "compare_adapters": """## One picture, three adapters

The same picture, prompt and seed through a base IP-Adapter, an IP-Adapter Plus and IPAdapter-Instruct. The nodes are \
the same: *Load IPAdapter-Instruct* tells by a file's tensors what it is, and says so after a run.

- IP-Adapter and Plus take **no instruction**: what is written there is ignored, and the node says so. They are guided \
simply.
- Base reads the picture as one embedding (4 tokens), Plus as 257 states (16 tokens), Instruct likewise, under your \
words.
- Try other instructions: only the third picture changes. Try other SD1.5 adapters in the loaders: a composition \
adapter, plus-face, full-face.""",
    "faceid_embeddings": """## A face from its embedding

FaceID reads no picture but 512 numbers that tell a face. They may come from a file, and then nothing else is needed.

**Once**: install insightface and onnxruntime, and a pack such as buffalo_l in models/insightface/models. Select the \
three nodes below, Ctrl+M wakes them, run, Ctrl+M again. Press R, and choose the file in *Instruct Load Face*.

- **weight** 0.7 to 1. *Apply* also applies the LoRA in the adapter's file, as strongly as **lora_strength** on \
*Load IPAdapter-Instruct* says: no *Load LoRA*.
- Several photos of one person: a batch into *Instruct Read Face*, **together** average.
- FaceID-Plus and PlusV2 read the aligned face as well: *Instruct Read Face*'s **crop** as *Instruct Reference*'s image.
- insightface's packs are for non-commercial research only, says their licence.""",
    "weight_over_time": """## A weight that changes

*Schedule Instruct Weight* is a factor on *Apply*'s **weight**. Here the picture decides the first third, where \
the layout comes about, and fades out until the half.

**0** leaves the adapter out of a step and saves its work. Factors without positions are for equal parts: **1, \
0.8, 0.5**. Along **steps**, as many factors as steps are one for each.

**batch_factors** are further ones for the pictures of a batch. **three_way_until** makes guidance simple from some \
moment on, which saves passes. ComfyUI's *Create Hook Keyframe* may be connected in place of factors.""",
    "instruction_schedule": """## First the composition, then the style

*Combine Instruct Embeds* with the method **then** lets the first act until **at_percent**, and the second from then \
on. At every step only one of them acts.

Here both read the same picture; connect another one to the second *Encode* for the style of that.

**auto** chooses the guidance for each turn: three-way for the composition, simple for the style. *Apply* shows \
both after a run.

The other methods make one of the two for all steps: **concat**, both act, each by its weight; **average**, something \
between them; **add** and **subtract** are for trying out.""",
    "layer_weights": """## In which layers

*Instruct Layer Weights* has IPAdapter Plus's **weight_type**s: here the layers that carry the style, on top of \
the instruction.

Or write layers with factors of your own into **layer_weights**, such as **6: 1, 3: 0.2**; those that are not \
named do nothing. SDXL has layers 0 to 10, SD1.5 0 to 15, SD3 0 to 11.

Where does which layer act? Look with *Instruct Heat Map*, over blocks.""",
    "sampler_custom_advanced": """## The sampler in parts

*Apply* works with every sampler and guider. Here noise, guider, sampler and sigmas are nodes of their own. Connect \
the same model to *CFGGuider* and *BasicScheduler*.

In three-way guidance *CFGGuider*'s **cfg** is the text's scale, beside *Apply*'s **instruct_guidance** and \
**image_guidance**. Where instruct_guidance is as large as cfg and image_guidance is 1, two passes do.""",
    "heat_map": """## Which parts look at the reference

*Instruct Watch* goes behind the last *Apply*, and *Instruct Heat Map* behind *VAE Decode*. Bright is \
where the new picture looks at the reference most.

**view**: the whole sampling in one picture, *over steps*, *over blocks*, or each of the *tokens* by itself. \
Changing it draws anew without sampling.

Watching takes time while sampling, and changes nothing of the picture. Bypass both when you have seen enough.""",
    "grid": """## What a weight and an instruction do

*Instruct Grid* makes a picture for every **row** and **column**, each just as *Encode*, *Apply* and *KSampler* \
would make it, bit for bit, and lays them out with labels. The image encoder runs once.

**rows** and **columns**: instruction, weight, guidance, instruct_guidance, image_guidance, cfg, seed, or nothing. \
Their values: one a line, or numbers with commas between them.

Nine pictures take nine times as long as one: lower **steps** to look around.""",
    "five_instructions": """## One picture, five instructions

The same picture, prompt and seed in every column; only the instruction changes, and with it what crosses over.

Five pictures take five times as long as one. More instructions: a line each in **column_values**, and the same lines \
in **column_labels**.

*Instruct Grid* by itself makes sheets of instructions by weights, or of any two settings.""",
    "task_settings": """## From a task to all its settings

*Instruct Task* hands out what the authors recommend for a task and the loaded family: the instruction, *Apply*'s \
settings and the sampler's cfg. Load an SDXL adapter and model, and the figures follow.

*Encode*'s own **task** is *own words*, so that the connected instruction counts. **phrasing** *random* draws one of \
many wordings by **seed**, as in training: to explore variations, or to see how \
much the wording matters.""",
}
