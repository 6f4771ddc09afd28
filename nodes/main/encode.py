"""The Encode Instruct Prompt node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.encoding.pixels import CENTER_CROP, FITS
from ...models.guidance.tasks import describe_reading
from ...models.reference.combining import CONCAT, Combining, parse_numbers
from ..shared.face_inputs import check_structure, describe_face, face_inputs
from ..shared.prompts import conditioning, encoded_outputs, prompt_inputs
from ..shared.schema import schema
from ..shared.several import several_inputs
from ..shared.sockets import CATEGORY, Adapter, instruct_clip_input
from ..shared.status_text import output_with_text


class IPAdapterInstructEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructEncode",
                display_name="Encode Instruct Prompt",
                category=CATEGORY,
                description="Reads a picture as the instruction says, and encodes the prompts for the sampler.",
                inputs=[
                    Adapter.Input("adapter", tooltip="From Load IPAdapter-Instruct."),
                    io.Clip.Input("clip", tooltip="The checkpoint's CLIP. Its CLIP-L reads the instruction."),
                    io.Image.Input("image", tooltip="The reference picture. A batch is several references together."),
                    io.String.Input(
                        "instruction",
                        default="use the style",
                        tooltip=(
                            "What to take from the picture. Trained on: everything, style, colour, pose, composition, "
                            "face; SD1.5 also foreground, background, object (name the object)."
                        ),
                    ),
                    *prompt_inputs(),
                    io.ClipVision.Input(
                        "clip_vision", optional=True, tooltip="An image encoder to use instead of the loader's."
                    ),
                    io.Mask.Input(
                        "image_mask", optional=True, tooltip="Where to look in the picture. The rest counts as blank."
                    ),
                    io.Combo.Input(
                        "fit",
                        options=list(FITS),
                        default=CENTER_CROP,
                        optional=True,
                        tooltip=(
                            "How a picture becomes the encoder's square: cut the longer sides off (as trained), "
                            "add blank borders, or squeeze."
                        ),
                    ),
                    instruct_clip_input(
                        "A CLIP with CLIP-L to read the instruction, where clip has none or a changed one."
                    ),
                    *several_inputs(),
                    *face_inputs(),
                ],
                outputs=encoded_outputs(),
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["instruct", "ip adapter encode", "reference image", "image prompt"],
        )

    @classmethod
    def execute(
        cls,
        adapter,
        clip,
        image,
        instruction: str,
        prompt: str,
        negative_prompt: str,
        clip_vision=None,
        image_mask=None,
        fit: str = CENTER_CROP,
        instruct_clip=None,
        several: str = CONCAT,
        image_weights: str = "",
        negative_instruction: str = "",
        face=None,
        face_structure: float = 1.0,
    ) -> io.NodeOutput:
        from ...models.encoding.encode import EncodeSettings, References, encode_instruct
        from ...models.encoding.text_encoder import check_clip
        from ...models.encoding.tokens import GivenFaces, Texts

        check_structure(face_structure)
        check_clip(clip)
        combining = Combining(several, parse_numbers(image_weights, "image_weights"))
        references = References(image, image_mask, fit)
        texts = Texts(instruction, prompt, negative_prompt, negative_instruction.strip())
        settings = EncodeSettings(texts, combining, GivenFaces(face, face_structure))
        encoder = adapter.encoder(clip_vision)
        embeds = encode_instruct(adapter.adapter, instruct_clip or clip, encoder, references, settings)
        positive, negative = conditioning(clip, prompt, negative_prompt)
        said = describe_reading(adapter.adapter, instruction, texts.negative_instruction)
        return output_with_text(cls, said + describe_face(adapter.adapter, face), embeds, positive, negative)
