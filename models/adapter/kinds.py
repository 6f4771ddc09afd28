"""The kinds of adapters: how a file's tensors tell them, what they read of a reference, what makes their tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..families import SDXL
from ..files.encoder_files import FACE_WIDTH, EncoderNeed
from .image_projections import (
    OF_FACE,
    FacePlusProjection,
    FacePlusV2Projection,
    FaceProjection,
    FaceResamplerProjection,
    FullFaceProjection,
    LinearProjection,
    PlusProjection,
    Projection,
    ProjectionSizes,
)
from .resampler import Resampler, ResamplerSizes

V2 = "plusv2"
# In small letters, what makes a FaceID-Plus file a V2: "plus v2" together, or "v2" as a word of its own.
V2_NAMES = {
    V2: r"plus[\W_]*v[\W_]*2(?!\d)",
    "v2": r"(?<![a-z])v2(?![a-z\d])|(faceid|sd15|sdxl)v2(?!\d)",
}

Tensors = Mapping[str, Tensor]
ImageProjection = Projection | Resampler


@dataclass(frozen=True)
class Kind:
    """One kind of adapter.

    matches: whether the tensors of an image projection, by their published names, are of this kind.
    projection: an ImageProjection, made of sizes and operations; its `read_sizes` reads the sizes off the tensors.
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

    def encoder_need(self, sizes: ProjectionSizes | ResamplerSizes) -> EncoderNeed | None:
        """Return the part of an encoded image that adapters of these sizes read; None when they read a face alone."""
        if self.reads_hidden_states or self.reads_image_embeds:
            return EncoderNeed(sizes.image_width, image_embeds=self.reads_image_embeds)
        return None

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
BASE = Kind("base", "IP-Adapter", _has("proj.weight", "proj.bias"), LinearProjection, reads_image_embeds=True)
PLUS = Kind("plus", "IP-Adapter Plus", _has("latents", "layers."), PlusProjection, reads_hidden_states=True)
FULL_FACE = Kind("full-face", "IP-Adapter full-face", _has("proj.3."), FullFaceProjection, reads_hidden_states=True)
FACE_ID = Kind("faceid", "IP-Adapter FaceID", _has("proj.0.", "proj.2."), FaceProjection, reads_face=True)
FACE_ID_PLUS = Kind(
    "faceid-plus",
    "IP-Adapter FaceID-Plus",
    _has(OF_FACE),
    FacePlusProjection,
    reads_hidden_states=True,
    reads_face=True,
)
FACE_ID_PLUS_V2 = Kind(
    "faceid-plus-v2",
    "IP-Adapter FaceID-PlusV2",
    lambda tensors: False,  # its tensors are FaceID-Plus's: see `recognise_v2`
    FacePlusV2Projection,
    reads_hidden_states=True,
    reads_face=True,
    has_structure=True,
)
FACE_RESAMPLER = Kind(
    "faceid-resampler",
    "IP-Adapter FaceID portrait, unnormalised",
    _reads_a_face_as_state,
    FaceResamplerProjection,
    reads_face=True,
    normed_face=False,
)
# In the order in which they are asked: each kind's tensors are among those of a later one.
KINDS = (INSTRUCT, FACE_ID_PLUS, FACE_RESAMPLER, PLUS, FULL_FACE, FACE_ID, BASE, FACE_ID_PLUS_V2)


def kind_of(tensors: Tensors) -> Kind | None:
    """Return the kind of an image projection with these tensors, by their published names; None when it is none."""
    return next((kind for kind in KINDS if kind.matches(tensors)), None)


def recognise_v2(file_name: str, metadata: Mapping[str, str], context_width: int) -> tuple[bool, str]:
    """Return True for a FaceID-Plus file that is a V2, which no tensor tells, and in words how that is known.

    The name counts, with `plusv2` as it was published (ip-adapter-faceid-plusv2_*) however it is written, or with `v2`
    elsewhere, as in plus_sd15_v2; a conversion keeps the kind in its metadata.
    """
    if metadata.get("kind") in (FACE_ID_PLUS.name, FACE_ID_PLUS_V2.name):
        v2 = metadata["kind"] == FACE_ID_PLUS_V2.name
        return v2, f"read as FaceID-Plus{'V2' if v2 else ''}, as the file says"
    word = next((word for word, pattern in V2_NAMES.items() if re.search(pattern, file_name.lower())), None)
    if word:
        return True, f"read as FaceID-PlusV2, by '{word}' in its name"
    if context_width == SDXL.context_width:
        return True, "read as FaceID-PlusV2, the only one published for SDXL"
    return False, f"read as FaceID-Plus, not V2: its name has no '{V2}'"
