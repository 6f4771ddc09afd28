"""The Instruct Layer Weights node."""

from comfy_api.latest import io

from ...models.guidance.layer_weights import LINEAR, SCALINGS, V_ONLY, WEIGHT_TYPES, LayerWeights
from ..shared.schema import CATEGORY, Layers, Schema


class IPAdapterInstructLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructLayers",
            category=f"{CATEGORY}/control",
            inputs=[
                io.Combo.Input("weight_type", options=list(WEIGHT_TYPES), default=LINEAR),
                io.String.Input("layer_weights", default=""),
                io.Combo.Input("scaling", options=list(SCALINGS), default=V_ONLY),
            ],
            outputs=[Layers.Output(display_name="layers")],
            hidden=[],
            search_aliases=["weight type", "style transfer", "layer weights", "mad scientist", "block weights"],
        )

    @classmethod
    def execute(cls, weight_type: str, layer_weights: str, scaling: str) -> io.NodeOutput:
        return io.NodeOutput(LayerWeights(weight_type, layer_weights, scaling))
