"""The Instruct Tile Reference node."""

from comfy_api.latest import io

from ...models.encoding.pixels import check_image
from ...models.messages import check_numbers
from ..shared.schema import CATEGORY, Schema
from ..shared.status_text import output_with_text

MOST_TILES = 16


class IPAdapterInstructTile(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructTile",
            category=f"{CATEGORY}/prepare",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("max_tiles", default=4, min=1, max=MOST_TILES),
                io.Float.Input("overlap", default=0.1, min=0.0, max=0.5, step=0.05),
                io.Boolean.Input("whole", default=True),
            ],
            outputs=[io.Image.Output(display_name="image"), io.Int.Output(display_name="count")],
            search_aliases=["tiled ip adapter", "split image", "large reference", "panorama"],
        )

    @classmethod
    def execute(cls, image, max_tiles: int, overlap: float, whole: bool) -> io.NodeOutput:
        from ...models.reference.preparing import tile_grid, tiles

        check_image(image)
        check_numbers(1, MOST_TILES, max_tiles=max_tiles)
        check_numbers(0.0, 0.5, overlap=overlap)
        grid = tile_grid(image.shape[1], image.shape[2], max_tiles, overlap)
        cut = tiles(image, grid, whole)
        tiled = f"{grid.rows} x {grid.columns} tiles (rows x columns) a picture"
        return output_with_text(cls, [f"{len(cut)} squares of {grid.side} pixels; {tiled}"], cut, len(cut))
