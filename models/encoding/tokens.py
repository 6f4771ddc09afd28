"""Turn what is known of references into image tokens for each branch.

Axes: B references, T image tokens, N image patches and class token, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..guidance.branches import Branch, Branches, branch_texts
from ..reference.faces import Faces
from .features import Features
from .loaded_adapter import LoadedAdapter
from .text_cache import text_hidden_states

TokenEncoder = Callable[[Features], Branches[Tensor]]


@dataclass(frozen=True)
class Texts:
    """The texts that a user typed. Prompt weights and embeddings in them mean nothing to the resampler.

    negative_instruction: what to leave behind of the image; "" for nothing.
    """

    instruction: str
    prompt: str
    negative_prompt: str
    negative_instruction: str = ""


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
    adapter: LoadedAdapter, clip, texts: Texts, zero_hidden_states: Callable[[], Tensor], structure: float = 1.0
) -> TokenEncoder:
    """Return an adapter's encoder of references. zero_hidden_states: gives a zero image's, [1, N, D], if asked."""
    if adapter.kind.takes_instruction:
        return InstructTokens(adapter, clip, texts, zero_hidden_states())
    return PlainTokens(adapter, zero_hidden_states, structure)


class InstructTokens:
    """Encodes references under texts that are encoded once. The zero image's tokens are the same for all references."""

    def __init__(self, adapter: LoadedAdapter, clip, texts: Texts, zero_hidden_states: Tensor):
        negative_prompt = adapter.family.resampler_negative(texts.negative_prompt)
        self._texts = branch_texts(texts.instruction, texts.prompt, negative_prompt, texts.negative_instruction)
        given = (text for _, branch in self._texts.items() for text in (branch.instruct, branch.prompt))
        self._of_text = text_hidden_states(clip, given)
        self._adapter = adapter
        self._zero = None if texts.negative_instruction else self._tokens(zero_hidden_states, Branch.UNCOND)

    def __call__(self, features: Features) -> Branches[Tensor]:
        """Return tokens [B, T, width] for each branch."""
        hidden_states = cast(Tensor, features.hidden_states)
        return Branches(**{branch.value: self._of(hidden_states, branch) for branch in Branch})

    def _of(self, hidden_states: Tensor, branch: Branch) -> Tensor:
        if branch is Branch.UNCOND and self._zero is not None:
            return self._zero.expand(len(hidden_states), -1, -1)
        return self._tokens(hidden_states, branch)

    def _tokens(self, hidden_states: Tensor, branch: Branch) -> Tensor:
        texts = self._texts[branch]
        return self._adapter.image_tokens(hidden_states, self._of_text[texts.instruct], self._of_text[texts.prompt])


class PlainTokens:
    """Encodes references for adapters that take no instruction.

    A branch gets the reference's tokens where guidance keeps it, else those of nothing.

    Source: tencent-ailab/IP-Adapter@cfcdf8c, `get_image_embeds` of each class.
    """

    def __init__(self, adapter: LoadedAdapter, zero_hidden_states: Callable[[], Tensor], structure: float):
        self._adapter, self._kind = adapter, adapter.kind
        self._options = {"structure": structure} if adapter.kind.has_structure else {}
        self._zero = self._tokens(self._nothing(zero_hidden_states))

    def __call__(self, features: Features) -> Branches[Tensor]:
        """Return tokens [B, T, width] for each branch."""
        tokens = self._tokens(features)
        return Branches(tokens, tokens, tokens, self._zero.expand_as(tokens))

    def _nothing(self, zero_hidden_states: Callable[[], Tensor]) -> Features:
        sizes = self._adapter.sizes
        return Features(
            hidden_states=zero_hidden_states() if self._kind.reads_hidden_states else None,
            image_embeds=torch.zeros(1, sizes.image_width) if self._kind.reads_image_embeds else None,
            face=torch.zeros(1, sizes.face_width) if self._kind.reads_face else None,
        )

    def _tokens(self, features: Features) -> Tensor:
        reads = (self._kind.reads_face, self._kind.reads_hidden_states, self._kind.reads_image_embeds)
        known = (features.face, features.hidden_states, features.image_embeds)
        inputs = [cast(Tensor, part) for part, is_read in zip(known, reads, strict=True) if is_read]
        return self._adapter.image_tokens(*inputs, **self._options)
