"""The kinds of adapters: how a file's tensors tell them, what they read of a reference, what makes their tokens."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..families import SDXL
from ..files.encoder_files import FACE_WIDTH
from . import image_projections as projections
from .resampler import Resampler

V2 = "plusv2"
# In small letters, what makes a FaceID-Plus file a V2: "plus v2" together, or "v2" as a word of its own.
V2_NAMES = {V2: r"plus[\W_]*v[\W_]*2(?!\d)", "v2": r"(?<![a-z])v2(?![a-z\d])|(faceid|sd15|sdxl)v2(?!\d)"}

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """One kind of adapter.

    matches: whether the tensors of an image projection, by their published names, are of this kind.
    projection: made of sizes, which its `read_sizes` reads off the tensors, and operations.
    takes_instruction: whether it reads texts. reads_hidden_states, reads_image_embeds, reads_face: what else it reads.
    normed_face: whether the face embedding is one of length 1. has_structure: whether its projection takes `structure`.
    Without an image, hidden states are those of a zero image; image or face embeds are zeros.

    Source: tencent-ailab/IP-Adapter@cfcdf8c, `get_image_embeds` of each class.
    """

    name: str
    title: str
    matches: Callable[[Tensors], bool]
    projection: type[Any]
    takes_instruction: bool = False
    reads_hidden_states: bool = False
    reads_image_embeds: bool = False
    reads_face: bool = False
    normed_face: bool = True
    has_structure: bool = False

    def __str__(self) -> str:
        return self.title


def _has(*names: str) -> Callable[[Tensors], bool]:
    return lambda tensors: any(name.startswith(names) for name in tensors)


def _reads_a_face_as_state(tensors: Tensors) -> bool:
    into = tensors.get("proj_in.weight")
    return "latents" in tensors and into is not None and into.ndim == 2 and into.shape[1] == FACE_WIDTH


INSTRUCT = Kind(
    "instruct",
    "IPAdapter-Instruct",
    _has("proj_new_input.", "new_input_layers."),
    Resampler,
    takes_instruction=True,
    reads_hidden_states=True,
)
BASE = Kind(
    "base", "IP-Adapter", _has("proj.weight", "proj.bias"), projections.LinearProjection, reads_image_embeds=True
)
PLUS = Kind("plus", "IP-Adapter Plus", _has("latents", "layers."), projections.PlusProjection, reads_hidden_states=True)
FULL_FACE = Kind(
    "full-face", "IP-Adapter full-face", _has("proj.3."), projections.FullFaceProjection, reads_hidden_states=True
)
FACE_ID = Kind("faceid", "IP-Adapter FaceID", _has("proj.0.", "proj.2."), projections.FaceProjection, reads_face=True)
FACE_ID_PLUS = Kind(
    "faceid-plus",
    "IP-Adapter FaceID-Plus",
    _has(projections.OF_FACE),
    projections.FacePlusProjection,
    reads_hidden_states=True,
    reads_face=True,
)
FACE_ID_PLUS_V2 = Kind(
    "faceid-plus-v2",
    "IP-Adapter FaceID-PlusV2",
    lambda tensors: False,  # its tensors are FaceID-Plus's: see `version_of`
    projections.FacePlusV2Projection,
    reads_hidden_states=True,
    reads_face=True,
    has_structure=True,
)
FACE_RESAMPLER = Kind(
    "faceid-resampler",
    "IP-Adapter FaceID portrait, unnormalised",
    _reads_a_face_as_state,
    projections.FaceResamplerProjection,
    reads_face=True,
    normed_face=False,
)
# In the order in which they are asked: each kind's tensors are among those of a later one.
KINDS = (INSTRUCT, FACE_ID_PLUS, FACE_RESAMPLER, PLUS, FULL_FACE, FACE_ID, BASE, FACE_ID_PLUS_V2)


def kind_of(tensors: Tensors) -> Kind | None:
    """Return the kind of an image projection with these tensors, by their published names; None when it is none."""
    return next((kind for kind in KINDS if kind.matches(tensors)), None)


def version_of(
    kind: Kind, file_name: str, metadata: Mapping[str, str], context_width: int
) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind, and in words how it is known that a FaceID-Plus file is a V2 or none, which no tensor tells.

    The name counts, with `plusv2` as it was published (ip-adapter-faceid-plusv2_*) however it is written, or with `v2`
    elsewhere, as in plus_sd15_v2; a conversion keeps the kind in its metadata.
    """
    if kind is not FACE_ID_PLUS:
        return kind, ()
    if metadata.get("kind") == FACE_ID_PLUS.name:
        return kind, ("read as FaceID-Plus, as the file says",)
    if metadata.get("kind") == FACE_ID_PLUS_V2.name:
        return FACE_ID_PLUS_V2, ("read as FaceID-PlusV2, as the file says",)
    word = next((word for word, pattern in V2_NAMES.items() if re.search(pattern, file_name.lower())), None)
    if word:
        return FACE_ID_PLUS_V2, (f"read as FaceID-PlusV2, by '{word}' in its name",)
    if context_width == SDXL.context_width:
        return FACE_ID_PLUS_V2, ("read as FaceID-PlusV2, the only one published for SDXL",)
    return kind, (f"read as FaceID-Plus, not V2: its name has no '{V2}'",)
