"""Inputs for faces that the encoding nodes have in common."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.messages import check_numbers
from .schema import advanced
from .sockets import Face

MOST_STRUCTURE = 5.0


def face_inputs() -> list[io.Input]:
    """Return inputs for a FaceID adapter's face and how much of its picture FaceID-PlusV2 takes. Both are optional."""
    return [
        Face.Input(
            "face",
            optional=True,
            tooltip="For FaceID adapters: a face embedding, from Read Face or Load Face Embedding.",
        ),
        advanced(
            io.Float.Input(
                "face_structure",
                default=1.0,
                min=0.0,
                max=MOST_STRUCTURE,
                step=0.05,
                optional=True,
                tooltip="FaceID-PlusV2 only. How much of the picture of the face is added to its embedding.",
            )
        ),
    ]


def check_structure(face_structure: float) -> None:
    """Raise ValueError for a face structure that came by a link and is out of the input's range."""
    check_numbers(0.0, MOST_STRUCTURE, face_structure=face_structure)


def describe_face(adapter, face) -> list[str]:
    """Return a line where a face, or a picture beside it, means nothing to the adapter."""
    kind = adapter.kind
    if kind.reads_face and adapter.encoder_need is None:
        return [f"picture: not looked at; {kind} reads the face embedding alone"]
    if face is not None and not kind.reads_face:
        return [f"face: ignored; {kind} reads the picture"]
    return []
