"""The words on the notes of the workflows about when, how much, in which layers, and seeing it. Markdown."""

from __future__ import annotations

from shipped.notes import files

WEIGHT_OVER_TIME = f"""## A weight that changes

*Schedule Instruct Weight* is a factor on *Apply*'s **weight**. Here the picture decides the first third, where \
the layout comes about, and fades out until the half.

**0** leaves the adapter out of a step and saves its work. Factors without positions are for equal parts: **1, \
0.8, 0.5**. Along **steps**, as many factors as steps are one for each.

**batch_factors** are further ones for the pictures of a batch. **three_way_until** makes guidance simple from some \
moment on, which saves passes. ComfyUI's *Create Hook Keyframe* may be connected in place of factors.

{files("sd15")}"""
INSTRUCTION_SCHEDULE = f"""## First the composition, then the style

*Combine Instruct Embeds* with the method **then** lets the first act until **at_percent**, and the second from then \
on. At every step only one of them acts.

Here both read the same picture; connect another one to the second *Encode* for the style of that.

**auto** chooses the guidance for each turn: three-way for the composition, simple for the style. *Apply* shows \
both after a run.

The other methods make one of the two for all steps: **concat**, both act, each by its weight; **average**, something \
between them; **add** and **subtract** are for trying out.

{files("sd15")}"""
LAYER_WEIGHTS = f"""## In which layers

*Instruct Layer Weights* has IPAdapter Plus's **weight_type**s: here the layers that carry the style, on top of \
the instruction.

Or write layers with factors of your own into **layer_weights**, such as **6: 1, 3: 0.2**; those that are not \
named do nothing. SDXL has layers 0 to 10, SD1.5 0 to 15, SD3 0 to 11.

Where does which layer act? Look with *Instruct Heat Map*, over blocks.

{files("sdxl")}"""
SAMPLER_CUSTOM_ADVANCED = f"""## The sampler in parts

*Apply* works with every sampler and guider. Here noise, guider, sampler and sigmas are nodes of their own. Connect \
the same model to *CFGGuider* and *BasicScheduler*.

In three-way guidance *CFGGuider*'s **cfg** is the text's scale, beside *Apply*'s **instruct_guidance** and \
**image_guidance**. Where instruct_guidance is as large as cfg and image_guidance is 1, two passes do.

{files("sd15")}"""
HEAT_MAP = f"""## Which parts look at the reference

*Instruct Watch* goes behind the last *Apply*, and *Instruct Heat Map* behind *VAE Decode*. Bright is \
where the new picture looks at the reference most.

**view**: the whole sampling in one picture, *over steps*, *over blocks*, or each of the *tokens* by itself. \
Changing it draws anew without sampling.

Watching takes time while sampling, and changes nothing of the picture. Bypass both when you have seen enough.

{files("sd15")}"""
GRID = f"""## What a weight and an instruction do

*Instruct Grid* makes a picture for every **row** and **column**, each just as *Encode*, *Apply* and *KSampler* \
would make it, bit for bit, and lays them out with labels. The image encoder runs once.

**rows** and **columns**: instruction, weight, guidance, instruct_guidance, image_guidance, cfg, seed, or nothing. \
Their values: one a line, or numbers with commas between them.

Nine pictures take nine times as long as one: lower **steps** to look around.

{files("sd15")}"""
FIVE_INSTRUCTIONS = f"""## One picture, five instructions

The same picture, prompt and seed in every column; only the instruction changes, and with it what crosses over.

Five pictures take five times as long as one. More instructions: a line each in **column_values**, and the same lines \
in **column_labels**.

*Instruct Grid* by itself makes sheets of instructions by weights, or of any two settings.

{files("sd15")}"""
TASK_SETTINGS = f"""## From a task to all its settings

*Instruct Task* hands out what the authors recommend for a task and the loaded family: the instruction, *Apply*'s \
settings and the sampler's cfg. Load an SDXL adapter and model, and the figures follow.

*Encode*'s own **task** is *own words*, so that the connected instruction counts. **phrasing** *random* draws one of \
many wordings by **seed**, as in training: to explore variations, or to see how \
much the wording matters.

{files("sd15")}"""
