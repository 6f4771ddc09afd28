"""The Instruct Heat Map node.

Axes: A adapters, L latents and their pictures, R rows, C columns, H height, W width, h and w a map's height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ...models.attention_maps.heat_maps import EACH_MAP, SCALES, enlarged, normalised, overlaid
from ...models.encoding.pixels import check_image
from ...models.messages import check_choice, check_numbers
from ..shared.schema import CATEGORY, Schema
from ..shared.status_text import output_with_text
from .label_sheet import labelled_grid
from .watch import Watches

if TYPE_CHECKING:
    from ...models.attention_maps.record import Watch

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
            hidden=[io.Hidden.unique_id],
            search_aliases=["attention map", "ip adapter heatmap", "where does the reference act", "saliency"],
        )

    @classmethod
    def execute(cls, watch: Watch, image: Tensor, view: str, opacity: float, scale: str) -> io.NodeOutput:
        check_choice("view", view, list(VIEWS))
        check_choice("scale", scale, SCALES)
        check_numbers(0.0, 1.0, opacity=opacity)
        check_image(image)
        check_seen(watch, len(image))
        images = image[..., :3].float().cpu()
        shares = watch.mean()
        overlay = VIEWS[view](watch, images, opacity, scale)
        maps = enlarged(shares.flatten(0, 1), (images.shape[1], images.shape[2]))
        return output_with_text(cls, _summary(watch, shares), overlay, maps)


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


def image_view(watch: Watch, images: Tensor, opacity: float, scale: str) -> Tensor:
    """Show every picture for the first adapter, then for the next: [A L, H, W, 3]."""
    shares = watch.mean()
    maps = normalised(shares.flatten(0, 1), scale)
    return overlaid(images.repeat(len(shares), 1, 1, 1), maps, opacity)


def steps_view(watch: Watch, images: Tensor, opacity: float, scale: str) -> Tensor:
    """Show a row for each adapter and picture, with its shares from the beginning of sampling to the end."""
    positions, shares = zip(*watch.over_steps(PARTS_SHOWN), strict=True)
    maps = normalised(torch.stack(shares, dim=2).flatten(0, 1), scale)
    return sheet(maps, _rows(watch), [f"{100 * position:.0f} %" for position in positions], images, opacity)


def blocks_view(watch: Watch, images: Tensor, opacity: float, scale: str) -> Tensor:
    """Show a row for each adapter and picture, with its shares in one block after another."""
    blocks, shares = zip(*watch.over_blocks().items(), strict=True)
    maps = normalised(torch.stack(shares, dim=2).flatten(0, 1), scale)
    return sheet(maps, _rows(watch), blocks, images, opacity)


def tokens_view(watch: Watch, images: Tensor, opacity: float, scale: str) -> Tensor:
    """Show each adapter's tokens on a sheet of its own, since their numbers differ."""
    every = watch.token_maps()
    scaled = normalised(torch.cat([own.flatten(0, 1) for own in every.values()]), scale)
    parts = scaled.split([own.shape[0] * own.shape[1] for own in every.values()])
    sheets = []
    for (adapter, own), maps in zip(every.items(), parts, strict=True):
        columns = [f"token {number}" for number in range(1, own.shape[1] + 1)]
        sheets.append(sheet(maps.view_as(own), _labels(watch)[adapter], columns, images, opacity))
    return below_one_another(sheets)


IMAGE_VIEW = "picture"
VIEWS: dict[str, Callable[[Watch, Tensor, float, str], Tensor]] = {
    IMAGE_VIEW: image_view,
    "over steps": steps_view,
    "over blocks": blocks_view,
    "tokens": tokens_view,
}


def sheet(maps: Tensor, rows: Sequence[str], columns: Sequence[str], images: Tensor, opacity: float) -> Tensor:
    """Lay maps [R, C, h, w] in 0..1 over the pictures, from the first again, with labels: [1, H', W', 3].

    Many columns are broken into lines below one another.
    """
    shown = _small(images).repeat(len(rows) // len(images), 1, 1, 1)
    at_once = math.ceil(len(columns) / math.ceil(len(columns) / COLUMNS))
    lines = []
    for start in range(0, len(columns), at_once):
        part = maps[:, start : start + at_once]
        cells = overlaid(shown.repeat_interleave(part.shape[1], dim=0), part.flatten(0, 1), opacity)
        lines.append(labelled_grid(cells, rows, columns[start : start + at_once]))
    return below_one_another(lines)


def below_one_another(sheets: Sequence[Tensor]) -> Tensor:
    """Join sheets [1, H, W, 3] into one, below one another, on white."""
    width = max(one.shape[2] for one in sheets)
    return torch.cat([F.pad(one, (0, 0, 0, width - one.shape[2]), value=1.0) for one in sheets], dim=1)


def _small(images: Tensor) -> Tensor:
    """Shrink pictures [L, H, W, 3] to the size of a sheet's cells; smaller ones keep their size."""
    size = images.shape[1:3]
    factor = min(CELL / max(size), 1)
    size = [max(round(side * factor), 1) for side in size]
    return F.interpolate(images.movedim(-1, 1), size=size, mode="bilinear", antialias=True).movedim(1, -1)


def _names(watch: Watch) -> list[str]:
    return [text.strip() or f"adapter {number}" for number, text in enumerate(watch.instructions, start=1)]


def _rows(watch: Watch) -> list[str]:
    return [label for labels in _labels(watch) for label in labels]


def _labels(watch: Watch) -> list[list[str]]:
    """Return each adapter's labels, one for each picture."""
    if watch.latents == 1:
        return [[name] for name in _names(watch)]
    return [[f"{name}, picture {number}" for number in range(1, watch.latents + 1)] for name in _names(watch)]


def _summary(watch: Watch, shares: Tensor) -> list[str]:
    """Return a line for each adapter about its shares [A, L, h, w]."""
    return [
        f"{name}: {own.mean():.1%} of the attention, {own.min():.1%} to {own.max():.1%} from place to place"
        for name, own in zip(_names(watch), shares, strict=True)
    ]
