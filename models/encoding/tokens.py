"""Turn what is known of references into image tokens for each branch.

Axes: B references, T image tokens, N image patches and class token, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..guidance.branches import Branches, ResamplerTexts, branch_texts
from ..reference.faces import Faces
from .features import Features
from .loaded_adapter import LoadedAdapter
from .text_encoder import text_hidden_states

TokenEncoder = Callable[[Features], Branches[Tensor]]
ZeroStates = Callable[[], Tensor] | None  # gives a zero image's hidden states, [1, N, D]; None where none are read


@dataclass(frozen=True)
class Texts:
    """The texts that a user typed. Prompt weights and embeddings in them mean nothing to the resampler."""

    instruction: str
    prompt: str
    negative_prompt: str
    negative_instruction: str = ""  # what to leave behind of the image


def face_embeddings(adapter: LoadedAdapter, faces: Faces | None) -> Tensor | None:
    """Return faces [B, D] as the adapter takes them, None for one that reads none. Raises ValueError without a face."""
    kind = adapter.kind
    if not kind.reads_face:
        return None
    if faces is None:
        raise ValueError(
            f"A face was expected, since {adapter.name} is {kind}, which reads a face embedding; none is connected. "
            "Connect Instruct Load Face, or Instruct Read Face, to the input face of Instruct Reference."
        )
    rows = faces.normed if kind.normed_face else faces.embeddings
    if rows.shape[1] != adapter.sizes.face_width:
        raise ValueError(
            f"Face embeddings {adapter.sizes.face_width} wide were expected, as {adapter.name} takes them; they are "
            f"{rows.shape[1]} wide. Read the face with insightface's ArcFace, as the packs buffalo_l and antelopev2 do."
        )
    return rows


def for_images(rows: Tensor | None, images: int) -> Tensor | None:
    """Return a face embedding for each image, from as many or one for all. Raises ValueError for another number."""
    if rows is None or len(rows) == images:
        return rows
    if len(rows) > 1:
        raise ValueError(
            f"One face was expected for all pictures, or one for each; they are {len(rows)} faces and {images} "
            "pictures. Connect Instruct Read Face's outputs face and crop, which belong together."
        )
    return rows.expand(images, -1)


def token_encoder(
    adapter: LoadedAdapter, clip, texts: Texts, zero_states: ZeroStates, structure: float = 1.0
) -> TokenEncoder:
    """Return an adapter's encoder of references: from their features to tokens [B, T, width] for each branch.

    Texts, and what stands for no image, are encoded once for all references.
    """
    if adapter.kind.takes_instruction:
        return _instruct_encoder(adapter, clip, texts, cast(Callable[[], Tensor], zero_states)())
    return _plain_encoder(adapter, zero_states, structure)


def _instruct_encoder(adapter: LoadedAdapter, clip, texts: Texts, zero: Tensor) -> TokenEncoder:
    negative_prompt = adapter.family.resampler_negative(texts.negative_prompt)
    branches = branch_texts(texts.instruction, texts.prompt, negative_prompt, texts.negative_instruction)
    of_text = text_hidden_states(clip, (text for _, both in branches.items() for text in (both.instruct, both.prompt)))

    def tokens(hidden_states: Tensor, both: ResamplerTexts) -> Tensor:
        return adapter.image_tokens(hidden_states, of_text[both.instruct], of_text[both.prompt])

    nothing = None if texts.negative_instruction else tokens(zero, branches.uncond)

    def encode(features: Features) -> Branches[Tensor]:
        seen = cast(Tensor, features.hidden_states)
        uncond = tokens(seen, branches.uncond) if nothing is None else nothing.expand(len(seen), -1, -1)
        with_image = (branches.full, branches.everything, branches.image_only)
        full, everything, image_only = (tokens(seen, both) for both in with_image)
        return Branches(full, everything, image_only, uncond)

    return encode


def _plain_encoder(adapter: LoadedAdapter, zero_states: ZeroStates, structure: float) -> TokenEncoder:
    """Return an encoder for adapters that take no instruction.

    A branch gets the reference's tokens where guidance keeps it, else those of nothing.

    Source: tencent-ailab/IP-Adapter@cfcdf8c, `get_image_embeds` of each class.
    """
    kind, sizes = adapter.kind, adapter.sizes
    options = {"structure": structure} if kind.has_structure else {}
    of_nothing: dict[str, Any] = {  # in the order in which projections take them
        "face": lambda: torch.zeros(1, sizes.face_width),
        "hidden_states": zero_states,
        "image_embeds": lambda: torch.zeros(1, sizes.image_width),
    }
    read = [name for name in of_nothing if getattr(kind, f"reads_{name}")]
    nothing = adapter.image_tokens(*(of_nothing[name]() for name in read), **options)

    def encode(features: Features) -> Branches[Tensor]:
        tokens = adapter.image_tokens(*(getattr(features, name) for name in read), **options)
        return Branches(tokens, tokens, tokens, nothing.expand_as(tokens))

    return encode
