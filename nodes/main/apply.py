"""The Apply IPAdapter-Instruct node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.guidance.tasks import AUTO, SIMPLE, THREE_WAY
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Embeds, Layers, Schedules
from ..shared.status_text import output_with_text


class IPAdapterInstructApply(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructApply",
                display_name="Apply IPAdapter-Instruct",
                category=CATEGORY,
                description="Makes a model follow the encoded picture and instruction. Several may follow one another.",
                inputs=[
                    io.Model.Input("model", tooltip="From a checkpoint loader, a LoRA loader, or another Apply."),
                    Embeds.Input("embeds", tooltip="From Encode Instruct Prompt."),
                    io.Float.Input(
                        "weight",
                        default=0.8,
                        min=-1.0,
                        max=3.0,
                        step=0.05,
                        tooltip="How strongly the picture acts. The paper recommends 0.6 to 0.8; 0 is the bare model.",
                    ),
                    io.Combo.Input(
                        "guidance",
                        options=[AUTO, SIMPLE, THREE_WAY],
                        default=AUTO,
                        tooltip=(
                            "simple: the sampler's cfg guides everything, two passes a step. three-way: instruction, "
                            "prompt and picture are guided apart, three passes or four. auto: the authors' choice for "
                            "the instruction, with their change of weight; it is shown after a run."
                        ),
                    ),
                    io.Float.Input(
                        "instruct_guidance",
                        default=2.0,
                        min=0.0,
                        max=30.0,
                        step=0.1,
                        tooltip=(
                            "Three-way only. Guides the instruction and the prompt's own tokens: raise this, not cfg, "
                            "when the prompt is not followed. cfg acts on how the picture is read for the prompt."
                        ),
                    ),
                    io.Float.Input(
                        "image_guidance",
                        default=1.0,
                        min=0.0,
                        max=30.0,
                        step=0.1,
                        tooltip="Three-way only. Guides the picture as such. 1 saves a pass; other values add one.",
                    ),
                    io.Float.Input(
                        "start_percent",
                        default=0.0,
                        min=0.0,
                        max=1.0,
                        step=0.001,
                        tooltip="Where in the sampling to begin. Before it the model is bare.",
                    ),
                    io.Float.Input(
                        "end_percent",
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.001,
                        tooltip="Where in the sampling to end. After it the model is bare.",
                    ),
                    io.Mask.Input(
                        "attn_mask",
                        optional=True,
                        tooltip="Where in the new picture to act, white for fully. Several: one for each of a batch. "
                        "Not with upscalers that sample tiles one by one: each tile would get the whole mask.",
                    ),
                    Schedules.Input(
                        "schedule",
                        optional=True,
                        tooltip="From Schedule Instruct Weight: factors on the weight over the sampling and the batch.",
                    ),
                    Layers.Input(
                        "layers",
                        optional=True,
                        tooltip="From Instruct Layer Weights: a factor on the weight in each part of the model.",
                    ),
                ],
                outputs=[io.Model.Output(tooltip="Connect it to a sampler or a guider, or to another Apply.")],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["instruct", "ip adapter apply", "reference image", "image prompt"],
        )

    @classmethod
    def execute(
        cls,
        model,
        embeds,
        weight: float,
        guidance: str,
        instruct_guidance: float,
        image_guidance: float,
        start_percent: float,
        end_percent: float,
        attn_mask=None,
        schedule=None,
        layers=None,
    ) -> io.NodeOutput:
        from ...models.patching.apply import apply_instruct
        from ...models.patching.chain import EVERYWHERE, STEADY, ApplySettings

        settings = ApplySettings(
            weight=weight,
            guidance=guidance,
            instruct_scale=instruct_guidance,
            image_scale=image_guidance,
            start_percent=start_percent,
            end_percent=end_percent,
            schedule=schedule or STEADY,
            layers=layers or EVERYWHERE,
        )
        patched, choices = apply_instruct(model, embeds, settings, attn_mask)
        return output_with_text(cls, choices, patched)
