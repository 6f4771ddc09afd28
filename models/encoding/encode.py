"""Encode references and texts into image tokens for each branch, which the Encode node hands to Apply."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat
from typing import Any, cast

import comfy.utils
from torch import Tensor

from ..files.encoder_files import EncoderNeed, wrong_encoder
from ..guidance.branches import Branches
from .combining import PER_INDEX, check_weights, combine_references
from .embeds import InstructEmbeds, joined_instructions
from .features import Features, stacked
from .held_models import HoldsModels
from .image_encoder import BATCH, EncoderFile, check_encoder, image_features, zero_hidden_states
from .loaded_adapter import LoadedAdapter
from .references import Images, Reference, References
from .text_encoder import check_clip_l
from .tokens import Texts, ZeroStates, face_embeddings, for_images, token_encoder


@dataclass(frozen=True, eq=False)
class AdapterWithEncoders(HoldsModels):
    """An adapter and the encoders chosen for it.

    encoder_file: for images, None where no file fits. clip_vision: the one to use instead, or None. instruct_clip: the
    CLIP that reads instructions instead of the checkpoint's, or None.
    """

    adapter: LoadedAdapter
    encoder_file: EncoderFile | None = None
    clip_vision: Any = None
    instruct_clip: Any = None

    def get_models(self) -> list:
        encoders = (self.encoder_file and self.encoder_file.model, self.clip_vision, self.instruct_clip)
        return [*self.adapter.get_models(), *(encoder.patcher for encoder in encoders if encoder)]

    @cached_property
    def encoder(self):
        """The CLIP_VISION that fits. Raises ValueError when none does."""
        need = cast(EncoderNeed, self.adapter.encoder_need)  # who reads faces alone asks for no encoder
        return chosen_encoder(self.encoder_file, self.clip_vision, need, "the loader's ")


def chosen_encoder(file: EncoderFile | None, clip_vision, need: EncoderNeed, whose: str = ""):
    """Return a CLIP_VISION: the connected one, else the file's. Raises ValueError when there is none, or another.

    whose: the node that has the input clip_vision, in words; "" for the one that asks.
    """
    if clip_vision is None and file is None:
        found = "no .safetensors file in models/clip_vision is one"
        raise ValueError(f"{wrong_encoder(found, need)} Or connect one to {whose}clip_vision.")
    encoder, name = (file.load(), file.name) if clip_vision is None and file else (clip_vision, "the connected one")
    check_encoder(encoder, need, name)
    return encoder


@dataclass(frozen=True, eq=False)
class Source:
    """The features of one reference, read a few images at a time, so that a long batch takes no more memory."""

    reference: Reference
    count: int
    batches: Iterable[Features]
    zero_states: ZeroStates = None


def encode_references(loaded: AdapterWithEncoders, clip, references: References, texts: Texts) -> InstructEmbeds:
    """Encode each reference by its own instruction, else that of `texts`, into image tokens for each branch.

    clip: reads the texts, where the adapter takes any and `loaded` has no other CLIP for them.
    Raises ValueError for an image, a mask, weights, a face or an encoder that cannot be used, before anything is
    encoded.
    """
    adapter, reader = loaded.adapter, loaded.instruct_clip or clip
    if adapter.kind.takes_instruction:
        check_clip_l(reader)
    weights = [one.weight for one in references.row]
    check_weights(weights, len(weights), "the references' weights")
    keeps_place = references.mode == PER_INDEX
    sources = [source_of(loaded, one) for one in references.row if one.weight or keeps_place]
    own_weights = tuple(source.reference.weight for source in sources for _ in range(source.count))
    check_weights(own_weights, len(own_weights), "the references' weights", references.mode)
    tokens = _tokens(adapter, reader, sources, texts)
    instruction = joined_instructions([one.instruction or texts.instruction for one in references.row], weights)
    combined = combine_references(stacked(tokens), references.mode, own_weights)
    return InstructEmbeds.of(adapter, instruction if adapter.kind.takes_instruction else "", combined)


def _tokens(adapter: LoadedAdapter, clip, sources: list[Source], texts: Texts) -> list[Branches[Tensor]]:
    parts = sum(-(-source.count // BATCH) for source in sources)
    progress = comfy.utils.ProgressBar(parts) if parts > 1 else None
    tokens = []
    for source in sources:
        one = source.reference
        own = replace(
            texts,
            instruction=one.instruction or texts.instruction,
            negative_instruction=one.negative_instruction or texts.negative_instruction,
        )
        encode = token_encoder(adapter, clip, own, source.zero_states, one.structure)
        for features in source.batches:
            tokens.append(encode(features))
            if progress:
                progress.update(1)
    return tokens


def source_of(loaded: AdapterWithEncoders, reference: Reference) -> Source:
    """Return what an adapter reads of a reference, not encoded yet. Raises ValueError for one with nothing usable."""
    adapter, images = loaded.adapter, reference.images
    faces, need = face_embeddings(adapter, reference.faces), adapter.encoder_need
    if need is None:
        return _known(reference, Features(face=faces))
    if images is not None:
        encoder, count = loaded.encoder, len(images.image)
        batches = _read(encoder, images, for_images(faces, count))
        return Source(reference, count, batches, partial(zero_hidden_states, encoder))
    if reference.stored is None:
        raise ValueError(
            f"Connect a picture to image: {adapter.name} is {adapter.kind}, which reads one; this reference has none."
        )
    stored, blank = reference.stored.features(need), reference.stored.blank_features(need)
    faces = for_images(faces, len(stored))
    if need.image_embeds:
        return _known(reference, Features(image_embeds=stored, face=faces))
    zero_states = partial(zero_hidden_states, loaded.encoder) if blank is None else lambda: blank
    return _known(reference, Features(hidden_states=stored, face=faces), zero_states)


def _known(reference: Reference, features: Features, zero_states: ZeroStates = None) -> Source:
    return Source(reference, features.rows, features.split(BATCH), zero_states)


def _read(encoder, images: Images, faces: Tensor | None) -> Iterator[Features]:
    own_faces = repeat(None) if faces is None else faces.split(BATCH)
    for (image, mask), face in zip(images.batches(BATCH), own_faces, strict=False):
        yield replace(image_features(encoder, image, mask, images.fit), face=face)
