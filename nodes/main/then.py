"""The node Instruct Embeds, Then."""

from __future__ import annotations

from comfy_api.latest import io

from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Embeds


class IPAdapterInstructThen(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructThen",
                display_name="Instruct Embeds, Then",
                category=CATEGORY,
                description="One instruction or picture until a moment of the sampling, another from then on.",
                inputs=[
                    Embeds.Input("embeds", tooltip="What acts first: from Encode, or another Then."),
                    Embeds.Input("then", tooltip="What acts afterwards."),
                    io.Float.Input(
                        "at_percent",
                        default=0.35,
                        min=0.0,
                        max=1.0,
                        step=0.001,
                        tooltip="Where in the sampling the second takes over, as start_percent.",
                    ),
                ],
                outputs=[Embeds.Output(display_name="embeds", tooltip="Connect it to Apply, or to another Then.")],
            ),
            search_aliases=["instruct schedule", "instruction schedule", "switch instruction", "prompt travel"],
        )

    @classmethod
    def execute(cls, embeds, then, at_percent: float) -> io.NodeOutput:
        from ...models.encoding.embeds import take_turns

        return io.NodeOutput(take_turns(embeds, then, at_percent))
