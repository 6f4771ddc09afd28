"""The Crop Around Mask node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.encoding.pixels import check_image
from ...models.messages import check_numbers
from ...models.reference.masks import mask_frames
from ..shared.schema import schema
from ..shared.sockets import CATEGORY


class IPAdapterInstructCropAround(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructCropAround",
                display_name="Crop Around Mask",
                category=f"{CATEGORY}/tools",
                description="Takes a square around what a mask marks, such as a face: the encoder sees it large.",
                inputs=[
                    io.Image.Input("image", tooltip="The picture, or a batch of them."),
                    io.Mask.Input(
                        "mask", tooltip="White on the face or thing. One mask for all pictures, or one for each."
                    ),
                    io.Float.Input(
                        "padding",
                        default=0.25,
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        tooltip=(
                            "What to take beside it on every side, as a fraction of its longer side. Less where the "
                            "picture ends."
                        ),
                    ),
                ],
                outputs=[
                    io.Image.Output(display_name="image", tooltip="The squares. Connect to Encode Instruct Prompt."),
                    io.Mask.Output(display_name="mask", tooltip="The mask, cropped alike."),
                ],
            ),
            search_aliases=["crop face", "square crop", "crop by mask", "face reference"],
        )

    @classmethod
    def execute(cls, image, mask, padding: float) -> io.NodeOutput:
        from ...models.reference.preparing import crop_around, mask_for_each

        check_image(image)
        check_numbers(0.0, 2.0, padding=padding)
        masks = mask_for_each(mask_frames(mask, "mask"), image)
        return io.NodeOutput(*crop_around(image, masks, padding))
