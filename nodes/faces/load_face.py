"""The Instruct Load Face node. It needs no insightface."""

from comfy_api.latest import io

from ...models.reference.faces import FACE_SUFFIX, read_faces
from ..shared.output_files import OutputFiles
from ..shared.schema import CATEGORY, Face, Schema
from ..shared.status_text import output_with_text

FACES = OutputFiles(
    FACE_SUFFIX, "faces", "faces/ann", saved="faces", save="Instruct Read Face (save_as)", prefix="save_as"
)


class IPAdapterInstructLoadFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructLoadFace",
            category=f"{CATEGORY}/faces",
            inputs=[io.Combo.Input("file", options=FACES.names())],
            outputs=[Face.Output(display_name="face")],
            search_aliases=["faceid", "load face", "import face", "face embedding"],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        return FACES.problem_with(file) or True

    @classmethod
    def fingerprint_inputs(cls, file=None):
        return FACES.fingerprint(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        faces = read_faces(FACES.path(file))
        by = f", read by {faces.recognition}" if faces.recognition else ""
        return output_with_text(cls, [f"{len(faces.embeddings)} face(s){by}"], faces)
