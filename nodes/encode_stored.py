"""Encode Stored Picture."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..models.combining import CONCAT, Combining, parse_numbers
from ..models.encoder_files import encoder_title
from ..models.patching.embeds import Texts, encode_features
from ..models.patching.image_encoder import zero_image_features
from ..models.patching.text_encoder import check_clip, check_clip_l
from ..models.tasks import describe_instruction
from .feedback import output_with_text
from .prompts import conditioning, encoded_outputs, prompt_inputs
from .schema import schema
from .several import several_inputs
from .sockets import CATEGORY, Adapter, PlusEmbeds

PLACES = 257  # a class token and 16 x 16 patches


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
                    io.Clip.Input(
                        "instruct_clip",
                        optional=True,
                        tooltip="A CLIP with CLIP-L to read the instruction, where clip has none or a changed one.",
                    ),
                    *several_inputs(),
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
    ) -> io.NodeOutput:
        how = Combining(several, parse_numbers(image_weights, "image_weights"))
        check_clip(clip)
        check_clip_l(instruct_clip or clip)
        width = adapter.adapter.sizes.image_width
        states = picture_states(clip_vision_output, embeds, width)
        zeros = blank_states(neg_embeds, width)
        if zeros is None:
            zeros = zero_image_features(adapter.encoder(clip_vision))
        texts = Texts(instruction, prompt, negative_prompt, negative_instruction.strip())
        encoded = encode_features(adapter.adapter, instruct_clip or clip, states, zeros, texts, how)
        positive, negative = conditioning(clip, prompt, negative_prompt)
        said = describe_instruction(encoded.adapter.family, instruction)
        return output_with_text(cls, [said], encoded, positive, negative)


def picture_states(clip_vision_output, embeds, width: int) -> Tensor:
    """The one that is connected -> states of the pictures, [n, 257, width]. Raises ValueError."""
    if (clip_vision_output is None) == (embeds is None):
        found = "neither is" if embeds is None else "both are"
        raise ValueError(
            f"Either clip_vision_output or embeds was expected to be connected; {found}. Connect CLIP Vision Encode "
            "to the one, or IPAdapter Encoder (pos_embed) or IPAdapter Load Embeds to the other."
        )
    if embeds is not None:
        return _states("embeds", embeds, width)
    return _states("clip_vision_output", getattr(clip_vision_output, "penultimate_hidden_states", None), width)


def blank_states(neg_embeds, width: int) -> Tensor | None:
    """States of what stands for no picture, [1, 257, width], of neg_embeds; None where that is not connected.

    Raises ValueError, also for the states of several different pictures.
    """
    if neg_embeds is None:
        return None
    states = _states("neg_embeds", neg_embeds, width)
    if not torch.equal(states, states[:1].expand_as(states)):
        raise ValueError(
            f"neg_embeds was expected to be one blank picture's; it is {len(states)} different pictures'. Connect the "
            "neg_embed of one IPAdapter Encoder, or nothing."
        )
    return states[:1]


def _states(name: str, states, width: int) -> Tensor:
    expected = f"{name} was expected to be the penultimate states of {encoder_title(width)}, [n, {PLACES}, {width}]"
    if not isinstance(states, Tensor):
        raise ValueError(f"{expected}; it is {type(states).__name__}. {_remedy(width)}")
    shape = list(states.shape)
    if 0 in shape or shape[1:] != [PLACES, width]:
        raise ValueError(f"{expected}; it is {shape}, {_what(shape, width)}. {_remedy(width)}")
    if not torch.isfinite(states).all():
        raise ValueError(f"{expected}; some of its values are NaN or infinite. Encode the picture again.")
    return states.float()


def _what(shape: list[int], width: int) -> str:
    """What tensors of this shape are, in words."""
    if 0 in shape:
        return "no picture at all"
    if len(shape) == 2:
        return "pooled embeds, as of a base IP-Adapter or a FaceID one, which have lost the picture's places"
    if len(shape) == 4:
        return "embeds that an old IPAdapter Plus saved, with and without the picture in one"
    if len(shape) == 3 and shape[2] != width:
        return f"states of {encoder_title(shape[2])}"
    if len(shape) == 3:
        return f"states of {shape[1]} places, of pictures in another size than 224 pixels, or of something else"
    return "something else"


def _remedy(width: int) -> str:
    return (
        f"Encode the picture with {encoder_title(width)}: CLIP Vision Encode, or IPAdapter Encoder with a Plus model; "
        "or connect the picture itself to Encode Instruct Prompt."
    )
