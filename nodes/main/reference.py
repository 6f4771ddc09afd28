"""The Instruct Reference node."""

from comfy_api.latest import io

from ...models.encoding.combining import CONCAT, MODES
from ...models.encoding.pixels import CENTER_CROP, FITS
from ...models.encoding.references import MOST_STRUCTURE, MOST_WEIGHT
from ..shared.schema import CATEGORY, Face, PlusEmbeds, References, Schema, advanced
from ..shared.status_text import output_with_text


class IPAdapterInstructReference(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructReference",
            category=CATEGORY,
            inputs=[
                io.String.Input("instruction", default=""),
                io.String.Input("negative_instruction", default=""),
                io.Float.Input("weight", default=1.0, min=-MOST_WEIGHT, max=MOST_WEIGHT, step=0.05),
                io.Combo.Input("combine", options=list(MODES), default=CONCAT),
                io.Image.Input("image", optional=True),
                References.Input("references", optional=True),
                io.Mask.Input("image_mask", optional=True),
                advanced(io.Combo.Input("fit", options=list(FITS), default=CENTER_CROP, optional=True)),
                Face.Input("face", optional=True),
                advanced(
                    io.Float.Input("face_structure", default=1.0, min=0.0, max=MOST_STRUCTURE, step=0.05, optional=True)
                ),
                io.ClipVisionOutput.Input("clip_vision_output", optional=True),
                PlusEmbeds.Input("embeds", optional=True),
                PlusEmbeds.Input("neg_embeds", optional=True),
            ],
            outputs=[References.Output(display_name="references")],
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
        row = (References(()) if references is None else references).then(reference, combine)
        return output_with_text(cls, [f"references in the row: {len(row.row)}, {combine}"], row)


def _check_has_use(name: str, value, other, what: str) -> None:
    if value is not None and other is None:
        raise ValueError(f"Connect {what}, too, or disconnect {name}: without {what} it does nothing.")
