"""The Instruct Watch node."""

from __future__ import annotations

from comfy_api.latest import io

from ..shared.schema import schema
from ..shared.sockets import CATEGORY

Watches = io.Custom("INSTRUCT_WATCH")


class IPAdapterInstructWatch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructWatch",
                display_name="Instruct Watch",
                category=f"{CATEGORY}/explore",
                description="Watches where a picture looks at its references while it is sampled. Changes nothing.",
                inputs=[io.Model.Input("model", tooltip="From the last Apply IPAdapter-Instruct.")],
                outputs=[
                    io.Model.Output(display_name="model", tooltip="Connect it to the sampler or guider."),
                    Watches.Output(
                        display_name="watch", tooltip="What was seen in the last sampling, for Instruct Heat Map."
                    ),
                ],
            ),
            search_aliases=["attention map", "ip adapter debug", "where does the reference act", "visualize attention"],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        from ...models.attention_maps.record import watched

        return io.NodeOutput(*watched(model))
