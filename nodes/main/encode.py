"""The Encode Instruct Prompt node."""

from typing import Any

from comfy_api.latest import io

from ...models.guidance.tasks import OWN_WORDS, TASKS, instruction_of
from ..shared.schema import CATEGORY, Adapter, Embeds, References, Schema
from ..shared.status_text import describe_reading, output_with_text


class IPAdapterInstructEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructEncode",
            category=CATEGORY,
            inputs=[
                Adapter.Input("adapter"),
                io.Clip.Input("clip"),
                io.Combo.Input("task", options=[OWN_WORDS, *(task.name for task in TASKS)], default="style"),
                io.String.Input("instruction", default="use the style"),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True),
                io.String.Input("negative_prompt", multiline=True, dynamic_prompts=True),
                io.Image.Input("image", optional=True),
                References.Input("references", optional=True),
            ],
            outputs=[
                Embeds.Output(display_name="embeds"),
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
            ],
            search_aliases=["instruct", "ip adapter encode", "reference image", "image prompt"],
        )

    @classmethod
    def execute(
        cls, adapter, clip, task: str, instruction: str, prompt: str, negative_prompt: str, image=None, references=None
    ) -> io.NodeOutput:
        from ...models.encoding.encode import encode_references
        from ...models.encoding.references import one_image
        from ...models.encoding.text_encoder import check_clip, conditionings
        from ...models.encoding.tokens import Texts

        check_either(image, references)
        check_clip(clip)
        texts = Texts(instruction_of(task, instruction), prompt, negative_prompt)
        row: Any = references if image is None else one_image(image)
        embeds = encode_references(adapter, clip, row, texts)
        lines = [line for one in row.row for line in _describe(adapter.adapter, one, texts.instruction)]
        if instruction.strip() not in ("", texts.instruction):
            lines.append(f"what is written in instruction: not used, since the task is {task}")
        positive, negative = conditionings(clip, (prompt, negative_prompt))
        return output_with_text(cls, list(dict.fromkeys(lines)), embeds, positive, negative)


def check_either(image, references) -> None:
    """Raises ValueError unless one of the two inputs is connected."""
    if (image is None) == (references is None):
        found = "neither is" if image is None else "both are"
        raise ValueError(f"Connect a picture to image, or Instruct Reference to references; {found} connected.")


def _describe(adapter, reference, instruction: str) -> list[str]:
    lines = describe_reading(adapter, reference.instruction or instruction, reference.negative_instruction)
    kind = adapter.kind
    if kind.reads_face and adapter.encoder_need is None:
        return [*lines, f"picture: not looked at; {kind} reads the face embedding alone"]
    if reference.faces is not None and not kind.reads_face:
        return [*lines, f"face: ignored; {kind} reads the picture"]
    return lines
