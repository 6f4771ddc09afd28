"""The Instruct Grid node."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import comfy.samplers
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ...models.guidance.tasks import OWN_WORDS
from ...models.messages import check_letters
from ..main.encode import check_either
from ..shared.schema import CATEGORY, Adapter, References, Schema
from ..shared.status_text import output_with_text
from .grid_cells import GUIDANCES, NOTHING, NUMBERS, SEEDS, VARIED, Axis, Cell, axis, cells_of, passes

# The nodes of the grid take these from where the grid does: whatever ComfyUI has kept of them stays good, and
# nothing is loaded before the values are known to be right.
AS_LINK = {"lazy": True, "extra_dict": {"rawLink": True}}
NO_NODE = "unseen"  # no node of the page has this id, so that the page shows nothing

# A cell's settings that Apply takes, and those of the sampler
ACTING, SAMPLING = ("weight", "guidance", "instruct_guidance", "image_guidance"), ("cfg", "seed")


class IPAdapterInstructGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructGrid",
            category=f"{CATEGORY}/explore",
            inputs=[
                io.Model.Input("model", **AS_LINK),
                Adapter.Input("adapter", **AS_LINK),
                io.Clip.Input("clip", **AS_LINK),
                io.Vae.Input("vae", **AS_LINK),
                io.Latent.Input("latent", **AS_LINK),
                io.String.Input("instruction", default="use the style"),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True),
                io.String.Input("negative_prompt", multiline=True, dynamic_prompts=True),
                _number("weight", 0.8, 0.05),
                io.Combo.Input("guidance", options=list(GUIDANCES), default=GUIDANCES[0]),
                _number("instruct_guidance", 2.0, 0.1),
                _number("image_guidance", 1.0, 0.1),
                io.Int.Input("seed", default=0, min=SEEDS[0], max=SEEDS[1], control_after_generate=True),
                io.Int.Input("steps", default=20, min=1, max=10000),
                _number("cfg", 5.0, 0.1),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
                io.Combo.Input("rows", options=[NOTHING, *VARIED], default="instruction"),
                io.String.Input("row_values", multiline=True, default="use the style\nuse the composition"),
                io.Combo.Input("columns", options=[NOTHING, *VARIED], default="weight"),
                io.String.Input("column_values", multiline=True, default="0.4, 0.8"),
                io.Image.Input("image", optional=True, **AS_LINK),
                References.Input("references", optional=True, **AS_LINK),
                io.Mask.Input("attn_mask", optional=True, **AS_LINK),
            ],
            outputs=[io.Image.Output(display_name="grid"), io.Image.Output(display_name="images")],
            enable_expand=True,
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
        read = {"adapter": adapter, "clip": clip, "image": image, "references": references}
        sampling = {"steps": steps, "sampler_name": sampler_name, "scheduler": scheduler, "denoise": denoise}
        graph = GridGraph(
            GraphBuilder(),
            encode={**read, "task": OWN_WORDS, "prompt": prompt, "negative_prompt": negative_prompt},
            apply={"model": model, "start_percent": 0.0, "end_percent": 1.0, "attn_mask": attn_mask},
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
        return self.node("IPAdapterInstructLabelGrid", [{}], images=first, **labels, **more)

    def image(self, cell: Cell) -> list:
        """Add a cell's nodes and return the link of its picture. Cells share whatever is alike in them."""
        settings = [{name: getattr(cell, name) for name in names} for names in (("instruction",), ACTING, SAMPLING)]
        encoded = self.node("IPAdapterInstructEncode", settings[:1], **self.encode)
        applied = self.node("IPAdapterInstructApply", settings[:2], **self.apply, embeds=encoded.out(0))
        for speaking in (encoded, applied):
            speaking.set_override_display_id(NO_NODE)  # their words are not the grid's
        links = {"model": applied.out(0), "positive": encoded.out(1), "negative": encoded.out(2)}
        sampled = self.node("KSampler", settings, **self.sample, **links)
        return self.node("VAEDecode", [*settings, {}], samples=sampled.out(0), vae=self.vae).out(0)

    def node(self, kind: str, settings: Sequence[Mapping], **inputs):
        """Add a node under an id made of its settings: the same have the same id in every grid.

        settings: of the cell, those that act on the nodes before it, then its own.
        """
        values = tuple(value for one in settings for value in one.values())
        own = hashlib.blake2s(repr(values).encode(), digest_size=6).hexdigest()
        given = {name: value for name, value in inputs.items() if value is not None}
        return self.builder.node(kind, id=f"{kind}-{own}", **given, **settings[-1])


def _number(name: str, default: float, step: float) -> io.Input:
    low, high = NUMBERS[name]
    return io.Float.Input(name, default=default, min=low, max=high, step=step)


def _description(cells: Sequence[Cell], steps: int) -> str:
    fewest, most = passes(set(cells), steps)
    in_all = str(most) if fewest == most else f"{fewest} to {most}"
    instructions = len({cell.instruction for cell in cells})
    return (
        f"{len(cells)} picture(s) of {steps} steps, {instructions} instruction(s); {in_all} passes of the model, with "
        "samplers of one a step"
    )
