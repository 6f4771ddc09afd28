"""Encode Instruct Prompt."""

from __future__ import annotations

from comfy_api.latest import io

from ..models.patching.embeds import References, encode_instruct
from ..models.patching.pixels import CENTER_CROP, FITS
from .schema import schema
from .sockets import CATEGORY, Adapter, Embeds


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
                    io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip="What the new picture shows."),
                    io.String.Input(
                        "negative_prompt", multiline=True, dynamic_prompts=True, tooltip="What it should not show."
                    ),
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
                ],
                outputs=[
                    Embeds.Output(display_name="embeds", tooltip="Connect it to Apply IPAdapter-Instruct."),
                    io.Conditioning.Output(display_name="positive", tooltip="The prompt, as CLIP Text Encode gives it."),
                    io.Conditioning.Output(display_name="negative", tooltip="The negative prompt, likewise."),
                ],
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
    ) -> io.NodeOutput:
        references = References(image, image_mask, fit)
        encoder = adapter.encoder(clip_vision)
        embeds = encode_instruct(adapter.adapter, clip, encoder, references, instruction, prompt, negative_prompt)
        positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in (prompt, negative_prompt))
        return io.NodeOutput(embeds, positive, negative)
