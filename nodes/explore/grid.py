"""The Instruct Grid node."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import comfy.samplers
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ...models.guidance.tasks import OWN_WORDS
from ...models.messages import check_letters
from ..main.encode import check_either
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Adapter, References
from ..shared.status_text import output_with_text
from .grid_cells import GUIDANCES, NOTHING, NUMBERS, SEEDS, VARIED, Axis, Cell, axis, cells_of, passes

# The nodes of the grid take these from where the grid does: whatever ComfyUI has kept of them stays good, and
# nothing is loaded before the values are known to be right.
AS_LINK = {"lazy": True, "extra_dict": {"rawLink": True}}
NO_NODE = "unseen"  # no node of the page has this id, so that the page shows nothing


class IPAdapterInstructGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructGrid",
                display_name="Instruct Grid",
                category=f"{CATEGORY}/explore",
                description="Makes a picture for every pair of two settings' values, on one sheet with labels.",
                inputs=[
                    *_links(),
                    *_settings(),
                    *_axis("rows", "instruction", "use the style\nuse the composition"),
                    *_axis("columns", "weight", "0.4, 0.8"),
                    *_options(),
                ],
                outputs=[
                    io.Image.Output(display_name="grid", tooltip="The sheet, one picture. Preview it or save it."),
                    io.Image.Output(display_name="images", tooltip="The pictures as one batch, row by row."),
                ],
                hidden=[io.Hidden.unique_id],
                enable_expand=True,
            ),
            search_aliases=["xy plot", "xyz grid", "compare instructions", "parameter sweep"],
        )

    @classmethod
    def execute(
        cls,
        model,
        adapter,
        clip,
        vae,
        latent,
        instruction: str,
        prompt: str,
        negative_prompt: str,
        weight: float,
        guidance: str,
        instruct_guidance: float,
        image_guidance: float,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        rows: str,
        row_values: str,
        columns: str,
        column_values: str,
        image=None,
        references=None,
        attn_mask=None,
    ) -> io.NodeOutput:
        check_either(image, references)
        check_letters("instruction", instruction)
        cell = Cell(instruction, weight, guidance, instruct_guidance, image_guidance, cfg, seed)
        row_axis, column_axis = axis("rows", rows, row_values), axis("columns", columns, column_values)
        cells = cells_of(row_axis, column_axis, cell)
        texts = {"prompt": prompt, "negative_prompt": negative_prompt}
        sampling = {"steps": steps, "sampler_name": sampler_name, "scheduler": scheduler, "denoise": denoise}
        graph = GridGraph(
            GraphBuilder(),
            encode=_given(
                {"adapter": adapter, "clip": clip, "task": OWN_WORDS, **texts, "image": image, "references": references}
            ),
            apply=_given({"model": model, "start_percent": 0.0, "end_percent": 1.0, "attn_mask": attn_mask}),
            sample={**sampling, "latent_image": latent},
            vae=vae,
        )
        sheet = graph.sheet(cells, row_axis, column_axis)
        out = output_with_text(cls, [_description(cells, steps)], sheet.out(0), sheet.out(1))
        out.expand = graph.builder.finalize()
        return out


@dataclass(frozen=True)
class GridGraph:
    """The graph of a grid's nodes. encode, apply, sample: the inputs that they have in all cells."""

    builder: GraphBuilder
    encode: Mapping
    apply: Mapping
    sample: Mapping
    vae: list

    def sheet(self, cells: Sequence[Cell], rows: Axis, columns: Axis):
        """Add the last node, which joins the cells, and return it."""
        first, *others = (self.image(cell) for cell in cells)
        more = {f"more_{number:03}": image for number, image in enumerate(others)}
        labels = {"row_labels": "\n".join(rows.labels), "column_labels": "\n".join(columns.labels)}
        return self.node("IPAdapterInstructLabelGrid", (), images=first, **labels, **more)

    def image(self, cell: Cell) -> list:
        """Add a cell's nodes and return the link of its picture. Cells share whatever is alike in them."""
        reading = (cell.instruction,)
        encoded = self.node("IPAdapterInstructEncode", reading, **self.encode, instruction=cell.instruction)
        applying = (*reading, cell.weight, cell.guidance, cell.instruct_guidance, cell.image_guidance)
        applied = self.node(
            "IPAdapterInstructApply",
            applying,
            **self.apply,
            embeds=encoded.out(0),
            weight=cell.weight,
            guidance=cell.guidance,
            instruct_guidance=cell.instruct_guidance,
            image_guidance=cell.image_guidance,
        )
        for speaking in (encoded, applied):
            speaking.set_override_display_id(NO_NODE)  # their words are not the grid's
        sampling = (*applying, cell.cfg, cell.seed)
        conditions = {"positive": encoded.out(1), "negative": encoded.out(2)}
        sampled = self.node(
            "KSampler", sampling, **self.sample, **conditions, model=applied.out(0), cfg=cell.cfg, seed=cell.seed
        )
        return self.node("VAEDecode", sampling, samples=sampled.out(0), vae=self.vae).out(0)

    def node(self, kind: str, settings: tuple, **inputs):
        """Add a node under an id made of its settings: the same settings have the same id in every grid."""
        own = hashlib.blake2s(repr(settings).encode(), digest_size=6).hexdigest()
        return self.builder.node(kind, id=f"{kind}-{own}", **inputs)


def _given(inputs: dict) -> dict:
    return {name: value for name, value in inputs.items() if value is not None}


def _description(cells: Sequence[Cell], steps: int) -> str:
    distinct = set(cells)
    fewest, most = passes(distinct, steps)
    in_all = str(most) if fewest == most else f"{fewest} to {most}"
    instructions = len({cell.instruction for cell in cells})
    return (
        f"{len(cells)} picture(s) of {steps} steps, {instructions} instruction(s); {in_all} passes of the model, with "
        "samplers of one a step"
    )


# Inputs


def _links() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model without an adapter; LoRAs are fine.", **AS_LINK),
        Adapter.Input("adapter", tooltip="From Load IPAdapter-Instruct.", **AS_LINK),
        io.Clip.Input("clip", tooltip="The checkpoint's CLIP.", **AS_LINK),
        io.Vae.Input("vae", tooltip="The checkpoint's VAE, which makes the pictures.", **AS_LINK),
        io.Latent.Input("latent", tooltip="Where every cell begins, such as Empty Latent Image.", **AS_LINK),
    ]


def _settings() -> list[io.Input]:
    """Return the inputs for the cells' settings, of which an axis may vary one."""
    return [
        io.String.Input("instruction", default="use the style", tooltip="What to take from the picture."),
        io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip="What the new pictures show."),
        io.String.Input("negative_prompt", multiline=True, dynamic_prompts=True, tooltip="What they should not show."),
        _number("weight", 0.8, 0.05, "How strongly the picture acts, as on Apply."),
        io.Combo.Input(
            "guidance",
            options=list(GUIDANCES),
            default=GUIDANCES[0],
            tooltip="simple, three-way, or the authors' choice for the instruction, as on Apply.",
        ),
        _number("instruct_guidance", 2.0, 0.1, "Three-way only. Guides the instruction, as on Apply."),
        _number("image_guidance", 1.0, 0.1, "Three-way only. Guides the picture as such, as on Apply."),
        io.Int.Input(
            "seed",
            default=0,
            min=SEEDS[0],
            max=SEEDS[1],
            control_after_generate=True,
            tooltip="The noise that every cell begins with, as in KSampler.",
        ),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Steps of sampling for each cell."),
        _number("cfg", 5.0, 0.1, "The sampler's guidance by the prompt."),
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="As in KSampler."),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="As in KSampler."),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How much is made anew; below 1 the latent shows through.",
        ),
    ]


def _number(name: str, default: float, step: float, tooltip: str) -> io.Input:
    low, high = NUMBERS[name]
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip)


def _axis(name: str, default: str, values: str) -> list[io.Input]:
    one = name[:-1]
    return [
        io.Combo.Input(
            name,
            options=[NOTHING, *VARIED],
            default=default,
            tooltip=f"What changes from {one} to {one}. Everything else is as set above.",
        ),
        io.String.Input(
            f"{one}_values",
            multiline=True,
            default=values,
            tooltip=f"Its values, one a line for each {one}; numbers also between commas.",
        ),
    ]


def _options() -> list[io.Input]:
    return [
        io.Image.Input(
            "image", optional=True, tooltip="The reference picture, as in Encode Instruct Prompt.", **AS_LINK
        ),
        References.Input(
            "references",
            optional=True,
            tooltip="Instead of image: from Instruct Reference. Those without an instruction have each cell's.",
            **AS_LINK,
        ),
        io.Mask.Input("attn_mask", optional=True, tooltip="Where in the new pictures to act.", **AS_LINK),
    ]
