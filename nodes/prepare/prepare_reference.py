"""The Instruct Prepare Reference node."""

import torch
from comfy_api.latest import io
from PIL import ImageColor
from torch import Tensor

from ...models.encoding.pixels import check_image, mask_batch
from ...models.messages import check_choice, check_numbers, shown
from ..shared.schema import CATEGORY, Schema
from ..shared.status_text import output_with_text

CUT_OUT, CROP, BOTH = "cut out", "crop", "cut out and crop"
ACTIONS = (CUT_OUT, CROP, BOTH)
RANDOM = "random"
MOST_FEATHER = 64.0  # pixels
MOST_SEED = 2**64 - 1
MOST_PADDING = 2.0


class IPAdapterInstructPrepare(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructPrepare",
            category=f"{CATEGORY}/prepare",
            inputs=[
                io.Image.Input("image"),
                io.Mask.Input("mask"),
                io.Combo.Input("action", options=list(ACTIONS), default=CUT_OUT),
                io.String.Input("background", default=RANDOM),
                io.Int.Input("seed", default=0, min=0, max=MOST_SEED, control_after_generate=False),
                io.Float.Input("feather", default=0.0, min=0.0, max=MOST_FEATHER, step=0.5),
                io.Float.Input("padding", default=0.25, min=0.0, max=MOST_PADDING, step=0.05),
                io.Boolean.Input("invert", default=False),
            ],
            outputs=[io.Image.Output(display_name="image"), io.Mask.Output(display_name="mask")],
            search_aliases=["remove background", "cut out", "crop face", "square crop", "crop by mask"],
        )

    @classmethod
    def execute(
        cls, image, mask, action: str, background: str, seed: int, feather: float, padding: float, invert: bool
    ) -> io.NodeOutput:
        from ...models.reference.preparing import crop_around, cut_out, feathered, mask_for_each, random_colours

        check_choice("action", action, ACTIONS)
        colour = None if background.strip().lower() == RANDOM else _colour(background)
        check_image(image)
        check_numbers(0.0, MOST_FEATHER, feather=feather)
        check_numbers(0, MOST_SEED, seed=seed)
        check_numbers(0.0, MOST_PADDING, padding=padding)
        masks = mask_batch(mask, "mask")
        kept, lines = mask_for_each(1 - masks if invert else masks, image), []
        if action != CROP:
            kept = feathered(kept, feather)
            colours = random_colours(image, kept, seed) if colour is None else colour
            image = cut_out(image, kept, colours)
            typed = [f"#{bytes(rgb).hex()}" for rgb in (colours * 255).round().int().tolist()]
            lines.append(f"background: {', '.join(typed)}")
        if action != CUT_OUT:
            image, kept = crop_around(image, kept, padding)
            lines.append(f"square: {image.shape[1]} pixels")
        return output_with_text(cls, lines, image, kept)


def _colour(text: str) -> Tensor:
    """Return the colour that a text names, [1, 3] in 0..1. Raises ValueError for a text that names none."""
    try:
        rgb = ImageColor.getrgb(text.strip())[:3]
    except ValueError:
        raise ValueError(
            f"background was expected to be a colour, such as #808080, #888 or orange, or the word {RANDOM}; it is "
            f"{shown(text)}. Type one of these."
        ) from None
    return torch.tensor([rgb]) / 255
