"""The Combine Instruct Embeds node."""

from comfy_api.latest import io

from ...models.encoding.combining import CONCAT, METHODS
from ...models.messages import check_choice
from ..shared.schema import CATEGORY, Embeds, Schema

THEN = "then"


class IPAdapterInstructCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructCombine",
            category=CATEGORY,
            inputs=[
                Embeds.Input("embeds_1"),
                Embeds.Input("embeds_2"),
                io.Combo.Input("method", options=[*METHODS, THEN], default=CONCAT),
                io.Float.Input("weight_1", default=1.0, min=-3.0, max=3.0, step=0.05),
                io.Float.Input("weight_2", default=1.0, min=-3.0, max=3.0, step=0.05),
                io.Float.Input("at_percent", default=0.35, min=0.0, max=1.0, step=0.001),
            ],
            outputs=[Embeds.Output(display_name="embeds")],
            hidden=[],
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
