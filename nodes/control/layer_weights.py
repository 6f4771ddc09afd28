"""The Instruct Layer Weights node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.guidance.layer_weights import LINEAR, SCALINGS, V_ONLY, WEIGHT_TYPES, LayerWeights
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Layers


class IPAdapterInstructLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructLayers",
                display_name="Instruct Layer Weights",
                category=f"{CATEGORY}/control",
                description="How strongly the picture acts in each part of the model, for Apply.",
                inputs=[
                    io.Combo.Input(
                        "weight_type",
                        options=list(WEIGHT_TYPES),
                        default=LINEAR,
                        tooltip=(
                            "linear: the same everywhere. The others are those of IPAdapter Plus; SD3 knows those "
                            "without style or composition in their names."
                        ),
                    ),
                    io.String.Input(
                        "layer_weights",
                        default="",
                        tooltip=(
                            "Layers of your own with factors, such as 3: 1, 6: 0.5; inside a layer 6.2: 0.5. Others do "
                            "nothing. SD1.5 has 0 to 15, SDXL 0 to 10, SD3 0 to 11. Empty: as weight_type says."
                        ),
                    ),
                    io.Combo.Input(
                        "scaling",
                        options=list(SCALINGS),
                        default=V_ONLY,
                        tooltip=(
                            "Where the weight acts. V only: on what the picture adds. The others also change what is "
                            "looked at in the picture; not for SD3."
                        ),
                    ),
                ],
                outputs=[Layers.Output(display_name="layers", tooltip="Connect it to Apply IPAdapter-Instruct.")],
            ),
            search_aliases=["weight type", "style transfer", "layer weights", "mad scientist", "block weights"],
        )

    @classmethod
    def execute(cls, weight_type: str, layer_weights: str, scaling: str) -> io.NodeOutput:
        return io.NodeOutput(LayerWeights(weight_type, layer_weights, scaling))
