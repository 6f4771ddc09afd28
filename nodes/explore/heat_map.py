"""The Instruct Heat Map node.

Axes: A adapters, L latents and their pictures, R rows, C columns, H height, W width, h and w a map's height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ...models.attention_maps.heat_maps import EACH_MAP, SCALES, enlarged, normalised, overlaid
from ...models.drawing.label_sheet import labelled_grid
from ...models.encoding.pixels import check_image
from ...models.messages import check_choice, check_numbers
from ..shared.schema import CATEGORY, Schema
from ..shared.status_text import output_with_text
from .watch import Watches

if TYPE_CHECKING:
    from ...models.attention_maps.record import Watch

IMAGE_VIEW, STEPS_VIEW, TOKENS_VIEW = "picture", "over steps", "tokens"
VIEWS = (IMAGE_VIEW, STEPS_VIEW, "over blocks", TOKENS_VIEW)
PARTS_SHOWN = 8  # of the sampling, at most
CELL = 256  # the longer side of a picture on a sheet
COLUMNS = 8  # of a sheet, at most


class IPAdapterInstructHeatMap(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructHeatMap",
            category=f"{CATEGORY}/explore",
            inputs=[
                Watches.Input("watch"),
                io.Image.Input("image"),
                io.Combo.Input("view", options=list(VIEWS), default=IMAGE_VIEW),
                io.Float.Input("opacity", default=0.6, min=0.0, max=1.0, step=0.05),
                io.Combo.Input("scale", options=list(SCALES), default=EACH_MAP),
            ],
            outputs=[io.Image.Output(display_name="overlay"), io.Mask.Output(display_name="maps")],
            search_aliases=["attention map", "ip adapter heatmap", "where does the reference act", "saliency"],
        )

    @classmethod
    def execute(cls, watch: Watch, image: Tensor, view: str, opacity: float, scale: str) -> io.NodeOutput:
        check_choice("view", view, VIEWS)
        check_choice("scale", scale, SCALES)
        check_numbers(0.0, 1.0, opacity=opacity)
        check_image(image)
        check_seen(watch, len(image))
        images = image[..., :3].float().cpu()
        shares = watch.mean()
        maps = shares.flatten(0, 1)  # every picture for the first adapter, then for the next
        if view == IMAGE_VIEW:
            overlay = overlaid(images.repeat(len(shares), 1, 1, 1), normalised(maps, scale), opacity)
        else:
            overlay = drawn(sheets_of(watch, view), images, opacity, scale)
        lines = [
            f"{name}: {own.mean():.1%} of the attention, {own.min():.1%} to {own.max():.1%} from place to place"
            for name, own in zip(_names(watch), shares, strict=True)
        ]
        return output_with_text(cls, lines, overlay, enlarged(maps, images.shape[1:3]))


def check_seen(watch: Watch, images: int) -> None:
    """Raises ValueError when nothing was sampled under the watch, or another number of pictures."""
    if not watch.latents:
        raise ValueError(
            "A watched sampling was expected; nothing was seen yet. Connect the model of Instruct Watch to "
            "the sampler, and let it sample again, with another seed if its result is kept. Nothing is seen either "
            "where Apply has a weight of 0, or three-way guidance an instruct_guidance of 0, or where another node "
            "samples in tiles."
        )
    if images != watch.latents:
        raise ValueError(
            f"All pictures of the watched sampling were expected, {watch.latents}; image holds {images}. Connect the "
            "decoded batch of the sampler that was watched."
        )


class Sheet(NamedTuple):
    """Maps [R, C, h, w] in rows, one or several for each picture in turn, and columns, with their labels."""

    rows: Sequence[str]
    columns: Sequence[str]
    maps: Tensor


def sheets_of(watch: Watch, view: str) -> list[Sheet]:
    """Return a sheet with a row for each adapter and picture, and a column for each part of the run, or each block.

    Tokens are on a sheet for each adapter, since their numbers differ.
    """
    if view == TOKENS_VIEW:
        return [
            Sheet(_labels(watch)[adapter], [f"token {number}" for number in range(1, own.shape[1] + 1)], own)
            for adapter, own in watch.token_maps().items()
        ]
    if view == STEPS_VIEW:
        shown = [(f"{100 * position:.0f} %", share) for position, share in watch.over_steps(PARTS_SHOWN)]
    else:
        shown = watch.over_blocks().items()
    columns, shares = zip(*shown, strict=True)
    rows = [label for labels in _labels(watch) for label in labels]
    return [Sheet(rows, columns, torch.stack(shares, dim=2).flatten(0, 1))]


def drawn(sheets: Sequence[Sheet], images: Tensor, opacity: float, scale: str) -> Tensor:
    """Lay the sheets' maps over small pictures, with labels: one picture [1, H', W', 3].

    Many columns are broken into lines below one another.
    """
    factor = min(CELL / max(images.shape[1:3]), 1)
    size = [max(round(side * factor), 1) for side in images.shape[1:3]]
    small = F.interpolate(images.movedim(-1, 1), size=size, mode="bilinear", antialias=True).movedim(1, -1)
    flat = normalised(torch.cat([sheet.maps.flatten(0, 1) for sheet in sheets]), scale)
    lines = []
    for rows, columns, own in sheets:
        scaled, flat = flat.tensor_split([len(rows) * len(columns)])
        shown = small.repeat(len(rows) // len(small), 1, 1, 1)
        at_once = math.ceil(len(columns) / math.ceil(len(columns) / COLUMNS))
        for start in range(0, len(columns), at_once):
            part = scaled.view_as(own)[:, start : start + at_once]
            cells = overlaid(shown.repeat_interleave(part.shape[1], dim=0), part.flatten(0, 1), opacity)
            lines.append(labelled_grid(cells, rows, columns[start : start + at_once]))
    width = max(line.shape[2] for line in lines)
    return torch.cat([F.pad(line, (0, 0, 0, width - line.shape[2]), value=1.0) for line in lines], dim=1)


def _names(watch: Watch) -> list[str]:
    return [text.strip() or f"adapter {number}" for number, text in enumerate(watch.instructions, start=1)]


def _labels(watch: Watch) -> list[list[str]]:
    if watch.latents == 1:
        return [[name] for name in _names(watch)]
    return [[f"{name}, picture {number}" for number in range(1, watch.latents + 1)] for name in _names(watch)]
