"""From a picture and its texts to image tokens for each branch: what the Encode node hands to Apply."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..branches import Branches, branch_texts
from ..choices import check_choice
from ..encoder_files import wrong_encoder
from .image_encoder import EncoderFile, check_encoder, image_features, zero_image_features
from .loaded_adapter import LoadedAdapter
from .pixels import CENTER_CROP, FITS, check_image, check_mask
from .text_encoder import check_clip_l, encode_texts


@dataclass(frozen=True, eq=False)
class AdapterWithEncoder:
    """An adapter and the image encoder chosen for it, None where no file fits."""

    adapter: LoadedAdapter
    encoder_file: EncoderFile | None

    def encoder(self, clip_vision=None):
        """A ComfyUI CLIP_VISION that fits: the given one, else the chosen file's. Raises ValueError."""
        width = self.adapter.sizes.image_width
        if clip_vision is None:
            if self.encoder_file is None:
                found = "no .safetensors file in models/clip_vision is one"
                raise ValueError(f"{wrong_encoder(found, width)} Or connect one to clip_vision.")
            clip_vision = self.encoder_file.load()
            check_encoder(clip_vision, width, self.encoder_file.name)
        else:
            check_encoder(clip_vision, width, "the connected one")
        return clip_vision


@dataclass(frozen=True, eq=False)
class InstructEmbeds:
    """image_tokens: [1, T, context width] for each branch, of all references together."""

    adapter: LoadedAdapter
    instruction: str
    image_tokens: Branches[Tensor]


@dataclass(frozen=True)
class References:
    """Pictures [B, H, W, C] and how they meet the encoder's square; mask [B or 1, h, w] or None."""

    image: Tensor
    mask: Tensor | None = None
    fit: str = CENTER_CROP


@dataclass(frozen=True)
class Texts:
    """What a user typed. Prompt weights and embeddings in them mean nothing to the resampler."""

    instruction: str
    prompt: str
    negative_prompt: str


def encode_instruct(adapter: LoadedAdapter, clip, clip_vision, references: References, texts: Texts) -> InstructEmbeds:
    """Image tokens for each branch. Several references' tokens follow one another.

    clip_vision: an encoder that fits, from `AdapterWithEncoder.encoder`.
    Raises ValueError for an image, a mask or a CLIP that cannot be used, before anything is encoded.
    """
    check_choice("fit", references.fit, FITS)
    check_image(references.image)
    if references.mask is not None:
        check_mask(references.mask, len(references.image))
    check_clip_l(clip)
    negative_prompt = adapter.family.resampler_negative(texts.negative_prompt)
    by_branch = branch_texts(texts.instruction, texts.prompt, negative_prompt)
    features = _branch_features(clip_vision, references)
    states = encode_texts(clip, (text for _, t in by_branch.items() for text in (t.instruct, t.prompt)))
    tokens = {
        branch.value: adapter.image_tokens(features[branch], states[t.instruct], states[t.prompt])
        for branch, t in by_branch.items()
    }
    return InstructEmbeds(adapter, texts.instruction, Branches(**tokens))


def _branch_features(clip_vision, references: References) -> Branches[Tensor]:
    features = image_features(clip_vision, references.image, references.mask, references.fit)
    zeros = zero_image_features(clip_vision).expand(len(features), -1, -1)
    return Branches(full=features, everything=features, image_only=features, uncond=zeros)
