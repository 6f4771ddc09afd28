"""The Cut Out Reference node."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from PIL import ImageColor
from torch import Tensor

from ...models.encoding.pixels import check_image
from ...models.messages import check_numbers, shown
from ...models.reference.masks import mask_frames
from ..shared.schema import schema
from ..shared.sockets import CATEGORY
from ..shared.status_text import output_with_text

RANDOM = "random"
MOST_FEATHER = 64.0  # pixels
MOST_SEED = 2**64 - 1


class IPAdapterInstructCutOut(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructCutOut",
                display_name="Cut Out Reference",
                category=f"{CATEGORY}/tools",
                description="Puts what a mask keeps of a picture on a plain colour, which taking an object needs.",
                inputs=[
                    io.Image.Input("image", tooltip="The picture, or a batch of them."),
                    io.Mask.Input("mask", tooltip="White what to keep. One mask for all pictures, or one for each."),
                    io.String.Input(
                        "background",
                        default=RANDOM,
                        tooltip=(
                            "random draws a colour for each picture, far from what is kept. Or a colour: #808080, "
                            "#888, or a name such as orange."
                        ),
                    ),
                    io.Int.Input(
                        "seed",
                        default=0,
                        min=0,
                        max=MOST_SEED,
                        control_after_generate=False,
                        tooltip="Draws the random colours. The same seed draws the same.",
                    ),
                    io.Float.Input(
                        "feather",
                        default=0.0,
                        min=0.0,
                        max=MOST_FEATHER,
                        step=0.5,
                        tooltip="Over about how many pixels the edge between picture and colour fades. 0: none.",
                    ),
                    io.Boolean.Input(
                        "invert",
                        default=False,
                        tooltip="Keep what is black. Load Image's mask is white where a picture is transparent.",
                    ),
                ],
                outputs=[
                    io.Image.Output(display_name="image", tooltip="Connect it to Encode Instruct Prompt."),
                    io.Mask.Output(
                        display_name="mask", tooltip="What was kept, white, at the picture's size: inverted, feathered."
                    ),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["remove background", "object", "coloured background", "composite colour"],
        )

    @classmethod
    def execute(cls, image, mask, background: str, seed: int, feather: float, invert: bool) -> io.NodeOutput:
        from ...models.reference.preparing import cut_out, feathered, mask_for_each, random_colours

        colour = None if background.strip().lower() == RANDOM else _colour(background)
        check_image(image)
        check_numbers(0.0, MOST_FEATHER, feather=feather)
        check_numbers(0, MOST_SEED, seed=seed)
        frames = mask_frames(mask, "mask")
        kept = feathered(mask_for_each(1 - frames if invert else frames, image), feather)
        colours = random_colours(image, kept, seed) if colour is None else colour
        return output_with_text(cls, [f"background: {_names(colours)}"], cut_out(image, kept, colours), kept)


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


def _names(colours: Tensor) -> str:
    """Return the colours as they may be typed."""
    values = (colours * 255).round().int().tolist()
    return ", ".join("#" + "".join(f"{channel:02x}" for channel in colour) for colour in values)
