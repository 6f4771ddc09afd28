"""The Instruct Watch node."""

from comfy_api.latest import io

from ..shared.schema import CATEGORY, Schema

Watches = io.Custom("INSTRUCT_WATCH")


class IPAdapterInstructWatch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructWatch",
            category=f"{CATEGORY}/explore",
            inputs=[io.Model.Input("model")],
            outputs=[io.Model.Output(display_name="model"), Watches.Output(display_name="watch")],
            hidden=[],
            search_aliases=["attention map", "ip adapter debug", "where does the reference act", "visualize attention"],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        from ...models.attention_maps.record import watched

        return io.NodeOutput(*watched(model))
