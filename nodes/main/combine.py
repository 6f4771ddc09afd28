"""The Combine Instruct Embeds node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.messages import check_choice
from ...models.reference.combining import CONCAT, METHODS
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Embeds

THEN = "then"


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
                        options=[*METHODS, THEN],
                        default=CONCAT,
                        tooltip=(
                            "concat: both act together. average: between the two. add, subtract: the sum or the "
                            "difference of their tokens; try small weights. then: the first until a moment of the "
                            "sampling, the second from then on."
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
                    io.Float.Input(
                        "at_percent",
                        default=0.35,
                        min=0.0,
                        max=1.0,
                        step=0.001,
                        tooltip="For then: where in the sampling the second takes over, as start_percent.",
                    ),
                ],
                outputs=[Embeds.Output(display_name="embeds", tooltip="Connect it to Apply, or to another Combine.")],
            ),
            search_aliases=["instruct combine", "blend instructions", "switch instruction", "prompt travel"],
        )

    @classmethod
    def execute(
        cls, embeds_1, embeds_2, method: str, weight_1: float, weight_2: float, at_percent: float
    ) -> io.NodeOutput:
        from ...models.encoding.embeds import combine_embeds, switch_embeds

        check_choice("method", method, (*METHODS, THEN))
        weights = weight_1, weight_2
        if method == THEN:
            return io.NodeOutput(switch_embeds(embeds_1, embeds_2, at_percent, weights))
        return io.NodeOutput(combine_embeds(embeds_1, embeds_2, method, weights))
