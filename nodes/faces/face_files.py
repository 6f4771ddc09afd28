"""The Save Face Embedding and Load Face Embedding nodes. Neither needs insightface."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ...models.reference.faces import FACE_SUFFIX, Faces, read_faces, write_faces
from ..shared.output_files import OutputFiles
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Face
from ..shared.status_text import output_with_text

FACES = OutputFiles(FACE_SUFFIX, "faces", "faces/ann", saved="faces", save="Save Face Embedding")


class IPAdapterInstructSaveFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructSaveFace",
                display_name="Save Face Embedding",
                category=f"{CATEGORY}/faces",
                description="Saves a face that was read, to be used again without the photo and without insightface.",
                inputs=[
                    Face.Input("face", tooltip="From Read Face."),
                    io.String.Input(
                        "filename_prefix",
                        default=f"{FACES.saved}/face",
                        tooltip=(
                            f"Where in the output folder. A number and {FACE_SUFFIX} are added; no file is replaced."
                        ),
                    ),
                ],
                outputs=[],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            ),
            search_aliases=["faceid", "save face", "export face", "face embedding"],
        )

    @classmethod
    def execute(cls, face: Faces, filename_prefix: str) -> io.NodeOutput:
        output = os.path.abspath(folder_paths.get_output_directory())
        target = FACES.next_path(filename_prefix, output)
        write_faces(face, target)
        return output_with_text(cls, [f"{target.relative_to(output).as_posix()}, in {output}", _said(face)])


class IPAdapterInstructLoadFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructLoadFace",
                display_name="Load Face Embedding",
                category=f"{CATEGORY}/faces",
                description="Loads a face that was saved. It needs no photo and no insightface.",
                inputs=[
                    io.Combo.Input(
                        "file",
                        options=FACES.names(),
                        tooltip=(
                            f"A file *{FACE_SUFFIX} in the input folder, or in output/{FACES.saved}, where Save Face "
                            "Embedding puts it."
                        ),
                    ),
                ],
                outputs=[
                    Face.Output(display_name="face", tooltip="Connect it to a face input."),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["faceid", "load face", "import face", "face embedding"],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        """Return True, or what is wrong, when the host asks before anything runs. None stands for a link."""
        return FACES.problem_with(file) or True

    @classmethod
    def fingerprint_inputs(cls, file=None):
        """Return the file's digest: another file under the same name is another input."""
        return FACES.fingerprint(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        faces = read_faces(FACES.path(file))
        return output_with_text(cls, [_said(faces)], faces)


def _said(faces: Faces) -> str:
    by = f", read by {faces.recognition}" if faces.recognition else ""
    return f"{len(faces.embeddings)} face(s){by}"
