"""The Add Reference and Encode References nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.encoding.pixels import CENTER_CROP, FITS
from ...models.guidance.tasks import describe_reading
from ...models.messages import check_numbers
from ..shared import sockets
from ..shared.prompts import conditioning, encoded_outputs, prompt_inputs
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Adapter
from ..shared.status_text import output_with_text

MOST_WEIGHT = 3.0


class IPAdapterInstructReference(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructReference",
                display_name="Add Reference",
                category=CATEGORY,
                description="A picture with an instruction and a weight of its own. As many as you like, in a row.",
                inputs=[
                    io.Image.Input(
                        "image", tooltip="The reference picture. A batch is several, with this instruction."
                    ),
                    io.String.Input("instruction", default="use the style", tooltip="What to take from this picture."),
                    io.Float.Input(
                        "weight",
                        default=1.0,
                        min=-MOST_WEIGHT,
                        max=MOST_WEIGHT,
                        step=0.05,
                        tooltip="How much of it beside the others; 0 leaves it out. Apply's weight is for all.",
                    ),
                    sockets.References.Input(
                        "references", optional=True, tooltip="From another Add Reference: those before this one."
                    ),
                    io.Mask.Input("image_mask", optional=True, tooltip="Where to look in the picture."),
                    io.Combo.Input(
                        "fit",
                        options=list(FITS),
                        default=CENTER_CROP,
                        optional=True,
                        tooltip="How a picture becomes the encoder's square, as in Encode Instruct Prompt.",
                    ),
                ],
                outputs=[
                    sockets.References.Output(
                        display_name="references", tooltip="To another Add Reference, or to Encode References."
                    )
                ],
            ),
            search_aliases=["instruct", "several references", "ip adapter batch", "reference list"],
        )

    @classmethod
    def execute(
        cls, image, instruction: str, weight: float, references=(), image_mask=None, fit: str = CENTER_CROP
    ) -> io.NodeOutput:
        from ...models.encoding.encode import Reference, References

        check_numbers(-MOST_WEIGHT, MOST_WEIGHT, weight=weight)
        added = Reference(References(image, image_mask, fit), instruction, weight)
        return io.NodeOutput((*(references or ()), added))


class IPAdapterInstructEncodeReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructEncodeReferences",
                display_name="Encode References",
                category=CATEGORY,
                description="Reads each picture as its own instruction says, for one Apply, and encodes the prompts.",
                inputs=[
                    Adapter.Input("adapter", tooltip="From Load IPAdapter-Instruct."),
                    io.Clip.Input("clip", tooltip="The checkpoint's CLIP. Its CLIP-L reads the instructions."),
                    sockets.References.Input("references", tooltip="From the last Add Reference of a row."),
                    *prompt_inputs(),
                    io.ClipVision.Input(
                        "clip_vision", optional=True, tooltip="An image encoder to use instead of the loader's."
                    ),
                    sockets.instruct_clip_input("A CLIP with CLIP-L to read the instructions."),
                ],
                outputs=encoded_outputs(),
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["instruct", "several references", "ip adapter batch", "reference list"],
        )

    @classmethod
    def execute(
        cls, adapter, clip, references, prompt: str, negative_prompt: str, clip_vision=None, instruct_clip=None
    ) -> io.NodeOutput:
        from ...models.encoding.encode import encode_references
        from ...models.encoding.text_encoder import check_clip

        check_clip(clip)
        embeds = encode_references(
            adapter.adapter, instruct_clip or clip, adapter.encoder(clip_vision), references, (prompt, negative_prompt)
        )
        positive, negative = conditioning(clip, prompt, negative_prompt)
        lines = [line for one in references for line in describe_reading(adapter.adapter, one.instruction)]
        return output_with_text(cls, list(dict.fromkeys(lines)), embeds, positive, negative)
