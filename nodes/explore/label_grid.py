"""The Instruct Label Grid node."""

import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ...models.drawing.label_sheet import grid_shape, labelled_grid
from ...models.encoding.pixels import check_image
from ...models.messages import check_length, check_letters, check_numbers
from ..shared.schema import CATEGORY, Schema, advanced

WIDEST = 4096
MOST_PIXELS = 1 << 28  # of all cells together: 3 GB


class IPAdapterInstructLabelGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructLabelGrid",
            category=f"{CATEGORY}/explore",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("row_labels", multiline=True, default=""),
                io.String.Input("column_labels", multiline=True, default=""),
                advanced(io.Int.Input("cell_width", default=0, min=0, max=WIDEST, optional=True)),
            ],
            outputs=[io.Image.Output(display_name="grid"), io.Image.Output(display_name="images")],
            hidden=[],
            search_aliases=["xy plot", "contact sheet", "image grid", "compare"],
        )

    @classmethod
    def execute(cls, images, row_labels: str, column_labels: str, cell_width: int = 0, **more) -> io.NodeOutput:
        """Label the cells. more: further ones, by names in order, which Instruct Grid connects; each may be a batch."""
        check_numbers(0, WIDEST, cell_width=cell_width)
        for name, labels in (("row_labels", row_labels), ("column_labels", column_labels)):
            check_length(name, labels)
            check_letters(name, labels)
        parts = [images, *(more[name] for name in sorted(more))]
        for part in parts:
            check_image(part)
        cells = images = torch.cat(parts)
        if more:  # the images of a batch side by side, [1, H, B W, C]
            cells = torch.cat([part.movedim(0, 1).flatten(1, 2).unsqueeze(0) for part in parts])
        rows, columns = _labels(row_labels), _labels(column_labels) or [""]
        grid_shape(len(cells), rows, columns)
        return io.NodeOutput(labelled_grid(_of_width(cells, cell_width), rows, columns), images)


def _labels(text: str) -> list[str]:
    return [line.strip() for line in text.rstrip().splitlines()]


def _of_width(cells: Tensor, width: int) -> Tensor:
    """Resize cells [N, H, W, C] to a width, in proportion; at 0 and their own they stay bit for bit as they are.

    Raises ValueError for a width at which they would not fit into memory.
    """
    if width in (0, cells.shape[2]):
        return cells
    size = max(1, round(cells.shape[1] * width / cells.shape[2])), width
    if len(cells) * size[0] * size[1] > MOST_PIXELS:
        raise ValueError(
            f"cell_width was expected to leave at most {MOST_PIXELS:,} pixels in all; {len(cells)} picture(s) would be "
            f"{size[1]:,} x {size[0]:,} each. Make it smaller, or 0."
        )
    resized = F.interpolate(cells.movedim(-1, 1), size=size, mode="bicubic", antialias=True)
    return resized.clamp(0, 1).movedim(1, -1)
