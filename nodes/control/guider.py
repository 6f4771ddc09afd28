"""The Instruct Guider node."""

from __future__ import annotations

from comfy_api.latest import io

from ..shared.schema import schema
from ..shared.sockets import CATEGORY
from ..shared.status_text import output_with_text


def _scale(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=tooltip)


class IPAdapterInstructGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructGuider",
                display_name="Instruct Guider",
                category=CATEGORY,
                description="Three-way guidance for SamplerCustomAdvanced, with its three scales side by side.",
                inputs=[
                    io.Model.Input("model", tooltip="From Apply IPAdapter-Instruct; its own scales are not used."),
                    io.Conditioning.Input("positive", tooltip="The prompt, from Encode Instruct Prompt."),
                    io.Conditioning.Input("negative", tooltip="The negative prompt."),
                    _scale("text_guidance", 5.0, "The sampler's cfg: how the picture is read for the prompt."),
                    _scale("instruct_guidance", 2.0, "For the instruction and the prompt's own tokens."),
                    _scale("image_guidance", 1.0, "For the picture as such. 1 saves a pass."),
                ],
                outputs=[io.Guider.Output(tooltip="Connect it to SamplerCustomAdvanced.")],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["three-way guidance", "instruct cfg", "ip adapter guider", "cfg guider"],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, text_guidance: float, instruct_guidance: float, image_guidance: float
    ) -> io.NodeOutput:
        from ...models.patching.guider import three_scale_guider

        guider, passes, is_three_way = three_scale_guider(
            model, (positive, negative), text_guidance, instruct_guidance, image_guidance
        )
        lines = [f"passes a step: {passes}"]
        if not is_three_way:
            lines.append("guided simply by text_guidance: a plain IP-Adapter takes no instruction")
        return output_with_text(cls, lines, guider)
