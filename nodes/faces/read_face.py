"""The Read Face node."""

from __future__ import annotations

import itertools

from comfy_api.latest import io

from ...models.encoding.pixels import check_image
from ...models.reference.face_analysis import SeenFace, crops_of, faces_of, see_faces
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Face, FaceAnalysis
from ..shared.status_text import output_with_text

LARGEST, ALL = "largest", "all"
EACH, AVERAGE = "each", "average"
PICTURES_SHOWN = 8


class IPAdapterInstructReadFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructReadFace",
                display_name="Read Face",
                category=f"{CATEGORY}/faces",
                description="Finds the face in a photo and reads it as FaceID adapters need it.",
                inputs=[
                    FaceAnalysis.Input(
                        "face_analysis",
                        tooltip="From Load Face Analysis, or from IPAdapter Plus's InsightFace Loader.",
                    ),
                    io.Image.Input("image", tooltip="A photo, or a batch of them."),
                    io.Combo.Input(
                        "which",
                        options=[LARGEST, ALL],
                        default=LARGEST,
                        tooltip="The largest face of each photo, or all of them, the largest first.",
                    ),
                    io.Combo.Input(
                        "together",
                        options=[EACH, AVERAGE],
                        default=EACH,
                        tooltip="average makes one face of all that are taken: for several photos of one person.",
                    ),
                ],
                outputs=[
                    Face.Output(display_name="face", tooltip="Connect it to a face input, or to Save Face Embedding."),
                    io.Image.Output(
                        display_name="crop",
                        tooltip="Every face that was taken, upright, 224 x 224: the picture that FaceID-Plus needs.",
                    ),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["faceid", "face embedding", "insightface", "arcface", "face crop", "align face"],
        )

    @classmethod
    def execute(cls, face_analysis, image, which: str, together: str) -> io.NodeOutput:
        check_image(image)
        seen = see_faces(face_analysis, image, largest=which == LARGEST)
        taken = list(itertools.chain(*seen))
        faces = faces_of(face_analysis, taken)
        if together == AVERAGE:
            faces = faces.averaged()
        made = f"{len(taken)} face(s) of {len(seen)} picture(s) -> {len(faces.embeddings)} embedding(s)"
        return output_with_text(cls, [made, *_sizes(seen)], faces, crops_of(taken))


def _sizes(seen: list[list[SeenFace]]) -> list[str]:
    """Return a line for each picture: its faces' sizes in pixels, and the detection size they were found at."""
    lines = [
        f"picture {number}: {', '.join(f'{face.width:.0f} x {face.height:.0f}' for face in faces)} pixels, "
        f"detected at {faces[0].detected_at}"
        for number, faces in enumerate(seen, start=1)
    ]
    more = len(lines) - PICTURES_SHOWN
    return lines if more <= 0 else [*lines[:PICTURES_SHOWN], f"and {more} more"]
