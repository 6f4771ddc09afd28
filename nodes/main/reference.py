"""The Instruct Reference node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.encoding.combining import CONCAT, MODES
from ...models.encoding.pixels import CENTER_CROP, FITS
from ...models.encoding.references import MOST_STRUCTURE, MOST_WEIGHT
from ..shared.schema import advanced, schema
from ..shared.sockets import CATEGORY, Face, PlusEmbeds, References
from ..shared.status_text import output_with_text


class IPAdapterInstructReference(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructReference",
                display_name="Instruct Reference",
                category=CATEGORY,
                description="One reference of a row: a picture or what was read of it, with words and a weight.",
                inputs=[
                    io.String.Input(
                        "instruction",
                        default="",
                        tooltip="What to take from it, such as: use the style. Empty: what Encode says.",
                    ),
                    io.String.Input(
                        "negative_instruction",
                        default="",
                        tooltip="What to leave behind, such as: the composition. Costs nothing a step.",
                    ),
                    io.Float.Input(
                        "weight",
                        default=1.0,
                        min=-MOST_WEIGHT,
                        max=MOST_WEIGHT,
                        step=0.05,
                        tooltip="How much of it beside the others; 0 leaves it out. Apply's weight is for all.",
                    ),
                    io.Combo.Input(
                        "combine",
                        options=list(MODES),
                        default=CONCAT,
                        tooltip=(
                            "How the pictures of the row act: all together, as their average, or the first on the "
                            "first picture of a batch of latents, and so on. The last of the row decides."
                        ),
                    ),
                    io.Image.Input(
                        "image", optional=True, tooltip="The reference picture. A batch is several, read alike."
                    ),
                    References.Input(
                        "references", optional=True, tooltip="From another Instruct Reference: those before this one."
                    ),
                    io.Mask.Input(
                        "image_mask", optional=True, tooltip="Where to look in the picture. The rest counts as blank."
                    ),
                    advanced(
                        io.Combo.Input(
                            "fit",
                            options=list(FITS),
                            default=CENTER_CROP,
                            optional=True,
                            tooltip=(
                                "How a picture becomes the encoder's square: cut the longer sides off (as trained), "
                                "add blank borders, or squeeze."
                            ),
                        )
                    ),
                    Face.Input(
                        "face",
                        optional=True,
                        tooltip="For FaceID adapters: from Instruct Read Face or Instruct Load Face.",
                    ),
                    advanced(
                        io.Float.Input(
                            "face_structure",
                            default=1.0,
                            min=0.0,
                            max=MOST_STRUCTURE,
                            step=0.05,
                            optional=True,
                            tooltip="FaceID-PlusV2 only. How much of the picture of the face is added.",
                        )
                    ),
                    io.ClipVisionOutput.Input(
                        "clip_vision_output",
                        optional=True,
                        tooltip="Instead of image: from CLIP Vision Encode, with the encoder that the adapter needs.",
                    ),
                    PlusEmbeds.Input(
                        "embeds",
                        optional=True,
                        tooltip="Instead of image: pos_embed of IPAdapter Encoder, or IPAdapter Load Embeds.",
                    ),
                    PlusEmbeds.Input(
                        "neg_embeds",
                        optional=True,
                        tooltip=(
                            "Beside embeds: what stands for no picture, so that no image encoder is needed. IPAdapter "
                            "Encoder's neg_embed is a black picture; unconnected it is a blank one, as trained."
                        ),
                    ),
                ],
                outputs=[
                    References.Output(display_name="references", tooltip="To another Instruct Reference, or to Encode.")
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["several references", "ip adapter batch", "negative instruction", "ip adapter embeds"],
        )

    @classmethod
    def execute(
        cls,
        instruction: str,
        negative_instruction: str,
        weight: float,
        combine: str,
        image=None,
        references=None,
        image_mask=None,
        fit: str = CENTER_CROP,
        face=None,
        face_structure: float = 1.0,
        clip_vision_output=None,
        embeds=None,
        neg_embeds=None,
    ) -> io.NodeOutput:
        from ...models.encoding.references import Images, Reference, References, Stored

        sources = {"image": image, "clip_vision_output": clip_vision_output, "embeds": embeds}
        given = [name for name, source in sources.items() if source is not None]
        if len(given) > 1 or not given and face is None:
            raise ValueError(
                "Connect one of image, clip_vision_output and embeds, or a face for an adapter that reads nothing "
                f"else; connected: {' and '.join(given) or 'none'}."
            )
        _check_has_use("image_mask", image_mask, image, "image")
        _check_has_use("neg_embeds", neg_embeds, clip_vision_output if embeds is None else embeds, "embeds")
        reference = Reference(
            None if image is None else Images(image, image_mask, fit),
            None if clip_vision_output is None and embeds is None else Stored(clip_vision_output, embeds, neg_embeds),
            face,
            instruction.strip(),
            negative_instruction.strip(),
            weight,
            face_structure,
        )
        reference.check()
        row = (References(()) if references is None else references).then(reference, combine)
        return output_with_text(cls, [f"references in the row: {len(row.row)}, {combine}"], row)


def _check_has_use(name: str, value, other, what: str) -> None:
    if value is not None and other is None:
        raise ValueError(f"Connect {what}, too, or disconnect {name}: without {what} it does nothing.")
