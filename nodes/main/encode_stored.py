"""The Encode Stored Picture node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from ...models.guidance.tasks import describe_reading
from ...models.reference.combining import CONCAT, Combining, parse_numbers
from ..shared.clip_vision_inputs import blank_states, picture_states
from ..shared.face_inputs import check_structure, describe_face, face_inputs
from ..shared.prompts import conditioning, encoded_outputs, prompt_inputs
from ..shared.schema import schema
from ..shared.several import several_inputs
from ..shared.sockets import CATEGORY, Adapter, PlusEmbeds, instruct_clip_input
from ..shared.status_text import output_with_text

if TYPE_CHECKING:
    from ...models.encoding.encode import AdapterWithEncoder
    from ...models.reference.features import Features


class IPAdapterInstructEncodeStored(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructEncodeStored",
                display_name="Encode Stored Picture",
                category=f"{CATEGORY}/tools",
                description=(
                    "As Encode Instruct Prompt, for a picture that an image encoder has read before: the instruction "
                    "can be changed at will without the picture."
                ),
                inputs=[
                    Adapter.Input("adapter", tooltip="From Load IPAdapter-Instruct."),
                    io.Clip.Input("clip", tooltip="The checkpoint's CLIP. Its CLIP-L reads the instruction."),
                    io.String.Input(
                        "instruction", default="use the style", tooltip="What to take from the picture, in words."
                    ),
                    *prompt_inputs(),
                    io.ClipVisionOutput.Input(
                        "clip_vision_output",
                        optional=True,
                        tooltip="From CLIP Vision Encode with a ViT-H. Connect this or embeds.",
                    ),
                    PlusEmbeds.Input(
                        "embeds",
                        optional=True,
                        tooltip="pos_embed of IPAdapter Encoder with a Plus model, or IPAdapter Load Embeds.",
                    ),
                    PlusEmbeds.Input(
                        "neg_embeds",
                        optional=True,
                        tooltip=(
                            "What stands for no picture, so that no image encoder is needed. IPAdapter Encoder's "
                            "neg_embed is a black picture; unconnected it is a blank one, as trained."
                        ),
                    ),
                    io.ClipVision.Input(
                        "clip_vision",
                        optional=True,
                        tooltip="An image encoder instead of the loader's, for the blank picture.",
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
            search_aliases=["instruct", "ip adapter embeds", "clip vision output", "encode embeds"],
        )

    @classmethod
    def execute(
        cls,
        adapter,
        clip,
        instruction: str,
        prompt: str,
        negative_prompt: str,
        clip_vision_output=None,
        embeds=None,
        neg_embeds=None,
        clip_vision=None,
        instruct_clip=None,
        several: str = CONCAT,
        image_weights: str = "",
        negative_instruction: str = "",
        face=None,
        face_structure: float = 1.0,
    ) -> io.NodeOutput:
        from ...models.encoding.encode import EncodeSettings, check_texts, encode_features
        from ...models.encoding.text_encoder import check_clip
        from ...models.encoding.tokens import GivenFaces, Texts

        combining = Combining(several, parse_numbers(image_weights, "image_weights"))
        check_structure(face_structure)
        check_clip(clip)
        check_texts(adapter.adapter, instruct_clip or clip)
        features, zero_states = _read(adapter, (clip_vision_output, embeds, neg_embeds), clip_vision, face)
        texts = Texts(instruction, prompt, negative_prompt, negative_instruction.strip())
        settings = EncodeSettings(texts, combining, GivenFaces(face, face_structure))
        encoded = encode_features(adapter.adapter, instruct_clip or clip, features, zero_states, settings)
        positive, negative = conditioning(clip, prompt, negative_prompt)
        said = describe_reading(adapter.adapter, instruction, texts.negative_instruction)
        return output_with_text(cls, said + describe_face(adapter.adapter, face), encoded, positive, negative)


def _read(
    adapter: AdapterWithEncoder, stored: tuple[object, Tensor | None, Tensor | None], clip_vision, face
) -> tuple[Features, Tensor | None]:
    """Return what is known of the references, and the states of no picture where the adapter asks for them.

    stored: clip_vision_output, embeds and neg_embeds, or None each.
    """
    from ...models.encoding.image_encoder import zero_image_states
    from ...models.encoding.tokens import face_embeddings, for_pictures
    from ...models.reference.features import Features

    faces, need = face_embeddings(adapter.adapter, face), adapter.adapter.encoder_need
    if need is None:
        return Features(face=faces), None
    found, zeros = picture_states(*stored[:2], need), blank_states(stored[2], need)
    faces = for_pictures(faces, len(found))
    if need.pooled:
        return Features(pooled=found, face=faces), None
    if zeros is None:
        zeros = zero_image_states(adapter.encoder(clip_vision))
    return Features(states=found, face=faces), zeros
