"""The Instruct Read Face node, which needs insightface."""

import itertools
import os
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ...models.encoding.pixels import check_image
from ...models.messages import check_choice
from ...models.reference import face_analysis as face_reading
from ...models.reference.faces import write_faces
from ..shared.schema import CATEGORY, Face, FaceAnalysis, Schema
from ..shared.status_text import output_with_text
from .load_face import FACES

FOLDER = "insightface"
LARGEST, ALL = "largest", "all"
EACH, AVERAGE = "each", "average"
IMAGES_SHOWN = 8


class IPAdapterInstructReadFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructReadFace",
            category=f"{CATEGORY}/faces",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input(
                    "model_pack", options=face_reading.pack_names(model_roots()), default=face_reading.BUFFALO
                ),
                io.Combo.Input("device", options=list(face_reading.DEVICES), default=face_reading.CPU),
                io.Combo.Input("which", options=[LARGEST, ALL], default=LARGEST),
                io.Combo.Input("together", options=[EACH, AVERAGE], default=EACH),
                io.String.Input("save_as", default=""),
                FaceAnalysis.Input("face_analysis", optional=True),
            ],
            outputs=[Face.Output(display_name="face"), io.Image.Output(display_name="crop")],
            is_output_node=True,  # to save a face, nothing needs to be connected
            search_aliases=["faceid", "face embedding", "insightface", "arcface", "face crop", "save face"],
        )

    @classmethod
    def validate_inputs(cls, model_pack=None):
        """Return True: `execute` says more of a pack that is not there."""
        return True

    @classmethod
    def execute(
        cls, image, model_pack: str, device: str, which: str, together: str, save_as: str, face_analysis=None
    ) -> io.NodeOutput:
        check_image(image)
        check_choice("device", device, list(face_reading.DEVICES))
        check_choice("which", which, (LARGEST, ALL))
        check_choice("together", together, (EACH, AVERAGE))
        output = os.path.abspath(folder_paths.get_output_directory())
        target = FACES.next_path(save_as, output) if save_as.strip() else None
        if face_analysis is None:
            analysis, lines = _loaded(model_pack, device)
        else:
            analysis, lines = face_analysis, []
            face_reading.check_analysis(analysis)
        seen = face_reading.see_faces(analysis, image, largest=which == LARGEST)
        taken = list(itertools.chain(*seen))
        faces = face_reading.faces_of(analysis, taken)
        crops = torch.stack([face.crop for face in taken])
        if together == AVERAGE:
            faces = faces.averaged()
        lines.append(f"{len(taken)} face(s) of {len(seen)} picture(s) -> {len(faces.embeddings)} embedding(s)")
        if target is not None:
            write_faces(faces, target)
            lines.append(f"saved: {target.relative_to(output).as_posix()}, in {output}")
        return output_with_text(cls, [*lines, *_sizes(seen)], faces, crops)


def model_roots() -> list[Path]:
    """Return models/insightface, then the folders that extra_model_paths or other packs name so."""
    others, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], ()))
    return list(dict.fromkeys(Path(root) for root in (Path(folder_paths.models_dir, FOLDER), *others)))


def _loaded(model_pack: str, device: str) -> tuple[object, list[str]]:
    analysis = face_reading.load_analysis(face_reading.pack_folder(model_pack, model_roots()), device)
    runs_on = face_reading.running_on(analysis)
    lines = [f"{model_pack}: {', '.join(analysis.models)}; runs on {runs_on}"]
    if device != face_reading.CPU and runs_on == face_reading.CPU:
        lines.append(face_reading.why_not(device))
    return analysis, lines


def _sizes(seen: list[list[face_reading.SeenFace]]) -> list[str]:
    lines = [
        f"picture {number}: {', '.join(f'{face.width:.0f} x {face.height:.0f}' for face in faces)} pixels, "
        f"detected at {faces[0].detected_at}"
        for number, faces in enumerate(seen, start=1)
    ]
    more = len(lines) - IMAGES_SHOWN
    return lines if more <= 0 else [*lines[:IMAGES_SHOWN], f"and {more} more"]
