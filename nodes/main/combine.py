"""The Combine Instruct Embeds node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.reference.combining import CONCAT, METHODS
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Embeds


class IPAdapterInstructCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructCombine",
                display_name="Combine Instruct Embeds",
                category=CATEGORY,
                description="Makes one of two encoded pictures or instructions, for one Apply.",
                inputs=[
                    Embeds.Input("embeds_1", tooltip="From Encode Instruct Prompt, or another Combine."),
                    Embeds.Input("embeds_2", tooltip="Encoded with the same adapter."),
                    io.Combo.Input(
                        "method",
                        options=list(METHODS),
                        default=CONCAT,
                        tooltip=(
                            "concat: both act together. average: between the two. add, subtract: the sum or the "
                            "difference of their tokens; try small weights."
                        ),
                    ),
                    io.Float.Input(
                        "weight_1",
                        default=1.0,
                        min=-3.0,
                        max=3.0,
                        step=0.05,
                        tooltip="How much of embeds_1; 0 is none.",
                    ),
                    io.Float.Input(
                        "weight_2",
                        default=1.0,
                        min=-3.0,
                        max=3.0,
                        step=0.05,
                        tooltip="How much of embeds_2; 0 is none.",
                    ),
                ],
                outputs=[Embeds.Output(display_name="embeds", tooltip="Connect it to Apply IPAdapter-Instruct.")],
            ),
            search_aliases=["instruct combine", "ip adapter combine", "blend instructions", "several references"],
        )

    @classmethod
    def execute(cls, embeds_1, embeds_2, method: str, weight_1: float, weight_2: float) -> io.NodeOutput:
        from ...models.encoding.embeds import check_untimed
        from ...models.encoding.encode import combine_embeds

        check_untimed(embeds_1, embeds_2)
        return io.NodeOutput(combine_embeds(embeds_1, embeds_2, method, (weight_1, weight_2)))
