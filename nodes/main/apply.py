"""The Apply IPAdapter-Instruct node."""

from comfy_api.latest import io

from ...models.guidance.tasks import AUTO, SIMPLE, THREE_WAY
from ..shared.schema import CATEGORY, Embeds, Layers, Schedules, Schema
from ..shared.status_text import output_with_text


class IPAdapterInstructApply(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructApply",
            category=CATEGORY,
            inputs=[
                io.Model.Input("model"),
                Embeds.Input("embeds"),
                io.Float.Input("weight", default=0.8, min=-1.0, max=3.0, step=0.05),
                io.Combo.Input("guidance", options=[AUTO, SIMPLE, THREE_WAY], default=AUTO),
                io.Float.Input("instruct_guidance", default=2.0, min=0.0, max=30.0, step=0.1),
                io.Float.Input("image_guidance", default=1.0, min=0.0, max=30.0, step=0.1),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001),
                io.Mask.Input("attn_mask", optional=True),
                Schedules.Input("schedule", optional=True),
                Layers.Input("layers", optional=True),
            ],
            outputs=[io.Model.Output()],
            search_aliases=["instruct", "ip adapter apply", "reference image", "image prompt"],
        )

    @classmethod
    def execute(
        cls,
        model,
        embeds,
        weight,
        guidance,
        instruct_guidance,
        image_guidance,
        start_percent,
        end_percent,
        attn_mask=None,
        schedule=None,
        layers=None,
    ) -> io.NodeOutput:
        from ...models.patching.apply import apply_instruct
        from ...models.patching.chain import EVERYWHERE, STEADY, ApplySettings

        schedule, layers = schedule or STEADY, layers or EVERYWHERE
        settings = ApplySettings(
            weight, guidance, instruct_guidance, image_guidance, start_percent, end_percent, schedule, layers
        )
        patched, choices = apply_instruct(model, embeds, settings, attn_mask)
        return output_with_text(cls, choices, patched)
