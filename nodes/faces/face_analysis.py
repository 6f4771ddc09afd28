"""The Load Face Analysis node."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...models.reference.face_analysis import (
    BUFFALO,
    CPU,
    DEVICES,
    load_analysis,
    pack_folder,
    pack_names,
    running_on,
    why_not,
)
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, FaceAnalysis
from ..shared.status_text import output_with_text

FOLDER = "insightface"


class IPAdapterInstructFaceAnalysis(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructFaceAnalysis",
                display_name="Load Face Analysis",
                category=f"{CATEGORY}/faces",
                description="Loads insightface, if you have installed it, to read faces for FaceID adapters.",
                inputs=[
                    io.Combo.Input(
                        "model_pack",
                        options=pack_names(model_roots()),
                        default=BUFFALO,
                        tooltip=(
                            "A folder of .onnx files in models/insightface/models. The FaceID adapters for SD1.5 and "
                            "SDXL were trained with buffalo_l."
                        ),
                    ),
                    io.Combo.Input(
                        "device",
                        options=list(DEVICES),
                        default=CPU,
                        tooltip="What onnxruntime runs on. Without the chosen one: the CPU, which the node then says.",
                    ),
                ],
                outputs=[
                    FaceAnalysis.Output(
                        display_name="face_analysis",
                        tooltip="Connect it to Read Face. IPAdapter Plus's nodes take it too.",
                    ),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["insightface", "face id", "faceid loader", "buffalo_l", "antelopev2"],
        )

    @classmethod
    def validate_inputs(cls, model_pack=None):
        """Return True: `execute` says more of a pack that is not there."""
        return True

    @classmethod
    def execute(cls, model_pack: str, device: str) -> io.NodeOutput:
        analysis = load_analysis(pack_folder(model_pack, model_roots()), device)
        runs_on = running_on(analysis)
        lines = [f"{model_pack}: {', '.join(analysis.models)}; runs on {runs_on}"]
        if device != CPU and runs_on == CPU:
            lines.append(why_not(device))
        return output_with_text(cls, lines, analysis)


def model_roots() -> list[Path]:
    """Return models/insightface, then the folders that extra_model_paths or other packs name so."""
    others, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], ()))
    return list(dict.fromkeys(Path(root) for root in (Path(folder_paths.models_dir, FOLDER), *others)))
