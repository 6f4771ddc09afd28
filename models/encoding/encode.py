"""Encode a picture and its texts into image tokens for each branch, which the Encode node hands to Apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import comfy.utils
import torch
from torch import Tensor

from ..files.encoder_files import wrong_encoder
from ..guidance.branches import Branch, Branches
from ..messages import check_choice
from ..reference.combining import MODES, Combining, check_weights, combine_references, combine_two, concatenate
from ..reference.features import Features
from ..reference.masks import mask_frames
from .embeds import InstructEmbeds
from .held_models import HoldsModels
from .image_encoder import BATCH, EncoderFile, check_encoder, image_features, zero_image_states
from .loaded_adapter import LoadedAdapter
from .pixels import CENTER_CROP, FITS, check_image, check_mask
from .text_encoder import check_clip_l
from .tokens import NO_FACES, GivenFaces, Texts, face_embeddings, for_pictures, token_encoder

TOGETHER = Combining()


@dataclass(frozen=True, eq=False)
class AdapterWithEncoder(HoldsModels):
    """An adapter and the image encoder chosen for it, None where no file fits."""

    adapter: LoadedAdapter
    encoder_file: EncoderFile | None

    @property
    def patcher(self):
        return self.adapter.patcher

    def get_models(self) -> list:
        encoder = self.encoder_file and self.encoder_file.model
        return [*self.adapter.get_models(), *([encoder.patcher] if encoder else [])]

    def encoder(self, clip_vision=None):
        """Return a CLIP_VISION that fits: the given one, else the chosen file's. Raises ValueError when none does.

        None for an adapter that reads faces alone.
        """
        need = self.adapter.encoder_need
        if need is None:
            return None
        if clip_vision is None:
            if self.encoder_file is None:
                found = "no .safetensors file in models/clip_vision is one"
                raise ValueError(f"{wrong_encoder(found, need)} Or connect one to clip_vision.")
            clip_vision = self.encoder_file.load()
            check_encoder(clip_vision, need, self.encoder_file.name)
        else:
            check_encoder(clip_vision, need, "the connected one")
        return clip_vision


@dataclass(frozen=True)
class References:
    """The pictures [B, H, W, C] to read, and how they meet the encoder's square; mask [B or 1, h, w] or None."""

    image: Tensor
    mask: Tensor | None = None
    fit: str = CENTER_CROP

    def batches(self, faces: Tensor | None = None) -> list[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Return a few pictures at a time, so that a long batch takes no more memory than a short one.

        faces: [B, D] or None. Each batch has its pictures, its masks and its faces.
        """
        images = self.image.split(BATCH)
        masks = None if self.mask is None else mask_frames(self.mask, "image_mask")
        own_masks = [masks] * len(images) if masks is None or len(masks) == 1 else masks.split(BATCH)
        own_faces = [None] * len(images) if faces is None else faces.split(BATCH)
        return list(zip(images, own_masks, own_faces, strict=True))

    def check(self) -> None:
        """Raises ValueError for pictures or masks that cannot be used."""
        check_choice("fit", self.fit, FITS)
        check_image(self.image)
        if self.mask is not None:
            check_mask(self.mask, len(self.image))


@dataclass(frozen=True, eq=False)
class EncodeSettings:
    """The settings for references: the texts and faces they are read by, and how their tokens act together."""

    texts: Texts
    combining: Combining = TOGETHER
    given: GivenFaces = NO_FACES


def encode_instruct(
    adapter: LoadedAdapter, clip, clip_vision, references: References, settings: EncodeSettings
) -> InstructEmbeds:
    """Encode all references, a few of them at a time, into image tokens for each branch.

    clip_vision: an encoder that fits, from `AdapterWithEncoder.encoder`; None where the adapter reads faces alone, and
    each face is a reference. clip: reads the texts, where the adapter takes any.
    Raises ValueError for an image, a mask, weights, a face or a CLIP that cannot be used, before anything is encoded.
    """
    faces = face_embeddings(adapter, settings.given.faces)
    if clip_vision is None:
        return encode_features(adapter, clip, Features(face=faces), None, settings)
    references.check()
    faces = for_pictures(faces, len(references.image))
    check_combining(settings.combining, len(references.image))
    check_texts(adapter, clip)
    batches = references.batches(faces)
    progress = comfy.utils.ProgressBar(len(batches)) if len(batches) > 1 else None
    structure = settings.given.structure
    encode = token_encoder(adapter, clip, settings.texts, lambda: zero_image_states(clip_vision), structure)
    tokens = []
    for image, mask, own_faces in batches:
        features = image_features(clip_vision, image, mask, references.fit)
        tokens.append(encode(replace(features, face=own_faces)))
        if progress:
            progress.update(1)
    return _embeds(adapter, settings, tokens)


def check_texts(adapter: LoadedAdapter, clip) -> None:
    """Raises ValueError unless `clip` can read what the adapter takes of texts."""
    if adapter.kind.takes_instruction:
        check_clip_l(clip)


def check_combining(combining: Combining, references: int) -> None:
    """Raises ValueError for a way of combining that so many references cannot be combined in."""
    check_choice("several", combining.mode, MODES)
    check_weights(combining.weights, references, "image_weights", combining.mode)


def encode_features(
    adapter: LoadedAdapter, clip, features: Features, zero_states: Tensor | None, settings: EncodeSettings
) -> InstructEmbeds:
    """Encode references whose features are known already.

    zero_states: a zero image's, [1, N, D], if the adapter asks.
    """
    batches = features.split(BATCH)
    check_combining(settings.combining, sum(batch.rows for batch in batches))
    check_texts(adapter, clip)
    encode = token_encoder(adapter, clip, settings.texts, lambda: cast(Tensor, zero_states), settings.given.structure)
    return _embeds(adapter, settings, [encode(batch) for batch in batches])


def _embeds(adapter: LoadedAdapter, settings: EncodeSettings, tokens: Sequence[Branches[Tensor]]) -> InstructEmbeds:
    together = Branches(**{branch.value: torch.cat([one[branch] for one in tokens]) for branch in Branch})
    instruction = settings.texts.instruction if adapter.kind.takes_instruction else ""
    return InstructEmbeds.of(adapter, instruction, combine_references(together, settings.combining))


def combine_embeds(
    first: InstructEmbeds, second: InstructEmbeds, method: str, weights: tuple[float, float]
) -> InstructEmbeds:
    """Combine two encoded references into one. Raises ValueError when they cannot be; see `combine_two`."""
    if first.adapter is not second.adapter and first.adapter.fingerprint != second.adapter.fingerprint:
        raise ValueError(
            f"Embeds of one adapter were expected; they are of {first.adapter.name} and {second.adapter.name}. Encode "
            "both with the same adapter, or give each an Apply of its own."
        )
    tokens = combine_two(first.tokens, second.tokens, method, weights)
    return InstructEmbeds.of(first.adapter, _joined((first.instruction, second.instruction), weights), tokens)


@dataclass(frozen=True, eq=False)
class Reference:
    """The pictures that are read by one instruction and act with one weight."""

    pictures: References
    instruction: str
    weight: float = 1.0


def encode_references(
    adapter: LoadedAdapter, clip, clip_vision, references: Sequence[Reference], prompts: tuple[str, str]
) -> InstructEmbeds:
    """Encode each reference by its own instruction, to act together; prompts: the prompt and the negative one."""
    weights = [one.weight for one in references]
    check_weights(weights, len(references), "the references' weights")
    used = [one for one in references if one.weight]
    for one in used:
        one.pictures.check()
    encoded = []
    for one in used:
        settings = EncodeSettings(Texts(one.instruction, *prompts))
        encoded.append((encode_instruct(adapter, clip, clip_vision, one.pictures, settings).tokens, one.weight))
    return InstructEmbeds.of(adapter, _joined([one.instruction for one in references], weights), concatenate(encoded))


def _joined(instructions: Sequence[str], weights: Sequence[float]) -> str:
    """Return the instructions that act, in which `auto` looks for the words it knows."""
    return "; ".join(dict.fromkeys(text for text, weight in zip(instructions, weights, strict=True) if weight))
