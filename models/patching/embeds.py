"""From a picture and its texts to image tokens for each branch: what the Encode node hands to Apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.utils
import torch
from torch import Tensor

from ..branches import Branch, Branches, branch_texts
from ..choices import check_choice
from ..combining import (
    MODES,
    Combining,
    ImageTokens,
    check_weights,
    combine_references,
    combine_two,
    concatenate,
)
from ..encoder_files import wrong_encoder
from .image_encoder import BATCH, EncoderFile, check_encoder, image_features, zero_image_features
from .loaded_adapter import LoadedAdapter
from .pixels import CENTER_CROP, FITS, check_image, check_mask
from .text_encoder import check_clip_l, encode_texts

DEFAULT = Combining()


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
    """What one Apply makes a model follow.

    image_tokens: [n, T, context width] for each branch; n is 1 for all latents of a batch alike, else one for each.
    token_weights: [n, T], a factor on each token's values in the attention; None for 1.
    """

    adapter: LoadedAdapter
    instruction: str
    image_tokens: Branches[Tensor]
    token_weights: Tensor | None = None

    @property
    def tokens(self) -> ImageTokens:
        return ImageTokens(self.image_tokens, self.token_weights)

    @classmethod
    def of(cls, adapter: LoadedAdapter, instruction: str, tokens: ImageTokens) -> InstructEmbeds:
        return cls(adapter, instruction, tokens.branches, tokens.weights)


@dataclass(frozen=True)
class References:
    """Pictures [B, H, W, C] and how they meet the encoder's square; mask [B or 1, h, w] or None."""

    image: Tensor
    mask: Tensor | None = None
    fit: str = CENTER_CROP

    def batches(self) -> list[tuple[Tensor, Tensor | None]]:
        """A few pictures at a time, each with its mask, so that a long batch takes no more memory than a short one."""
        images = self.image.split(BATCH)
        masks = None if self.mask is None else self.mask.reshape(-1, *self.mask.shape[-2:])
        if masks is None or len(masks) == 1:
            return [(image, masks) for image in images]
        return list(zip(images, masks.split(BATCH), strict=True))

    def check(self) -> None:
        """Raises ValueError for pictures or masks that cannot be used."""
        check_choice("fit", self.fit, FITS)
        check_image(self.image)
        if self.mask is not None:
            check_mask(self.mask, len(self.image))


@dataclass(frozen=True)
class Texts:
    """What a user typed. Prompt weights and embeddings in them mean nothing to the resampler.

    negative_instruction: what to leave behind of the picture; "" for nothing.
    """

    instruction: str
    prompt: str
    negative_prompt: str
    negative_instruction: str = ""


def encode_instruct(
    adapter: LoadedAdapter, clip, clip_vision, references: References, texts: Texts, how: Combining = DEFAULT
) -> InstructEmbeds:
    """Image tokens for each branch, of all references, a few of them at a time.

    clip_vision: an encoder that fits, from `AdapterWithEncoder.encoder`.
    Raises ValueError for an image, a mask, weights or a CLIP that cannot be used, before anything is encoded.
    """
    references.check()
    check_combining(how, len(references.image))
    check_clip_l(clip)
    batches = references.batches()
    progress = comfy.utils.ProgressBar(len(batches)) if len(batches) > 1 else None
    encode = TokenEncoder(adapter, clip, texts, zero_image_features(clip_vision))
    tokens = []
    for image, mask in batches:
        tokens.append(encode(image_features(clip_vision, image, mask, references.fit)))
        if progress:
            progress.update(1)
    return _embeds(adapter, texts, tokens, how)


def check_combining(how: Combining, references: int) -> None:
    """Raises ValueError for a way of combining that so many references cannot be combined in."""
    check_choice("several", how.mode, MODES)
    check_weights(how.weights, references, "image_weights", how.mode)


def encode_features(
    adapter: LoadedAdapter, clip, features: Tensor, zero_features: Tensor, texts: Texts, how: Combining = DEFAULT
) -> InstructEmbeds:
    """Image tokens of references whose features [B, N, D] are known; zero_features [1, N, D] are a zero image's."""
    check_combining(how, len(features))
    check_clip_l(clip)
    encode = TokenEncoder(adapter, clip, texts, zero_features)
    return _embeds(adapter, texts, [encode(batch) for batch in features.split(BATCH)], how)


def _embeds(adapter: LoadedAdapter, texts: Texts, tokens: Sequence[Branches[Tensor]], how: Combining) -> InstructEmbeds:
    together = Branches(**{branch.value: torch.cat([one[branch] for one in tokens]) for branch in Branch})
    return InstructEmbeds.of(adapter, texts.instruction, combine_references(together, how))


class TokenEncoder:
    """Features to image tokens, for texts that are encoded once. The zero image's tokens are the same for all."""

    def __init__(self, adapter: LoadedAdapter, clip, texts: Texts, zero_features: Tensor):
        negative_prompt = adapter.family.resampler_negative(texts.negative_prompt)
        self._texts = branch_texts(texts.instruction, texts.prompt, negative_prompt, texts.negative_instruction)
        self._states = encode_texts(clip, (text for _, t in self._texts.items() for text in (t.instruct, t.prompt)))
        self._adapter = adapter
        self._zero = None if texts.negative_instruction else self._tokens(zero_features, Branch.UNCOND)

    def __call__(self, features: Tensor) -> Branches[Tensor]:
        """features [B, N, D] -> [B, T, width] for each branch."""
        return Branches(**{branch.value: self._of(features, branch) for branch in Branch})

    def _of(self, features: Tensor, branch: Branch) -> Tensor:
        if branch is Branch.UNCOND and self._zero is not None:
            return self._zero.expand(len(features), -1, -1)
        return self._tokens(features, branch)

    def _tokens(self, features: Tensor, branch: Branch) -> Tensor:
        texts = self._texts[branch]
        return self._adapter.image_tokens(features, self._states[texts.instruct], self._states[texts.prompt])


def combine_embeds(
    first: InstructEmbeds, second: InstructEmbeds, method: str, weights: tuple[float, float]
) -> InstructEmbeds:
    """Two encoded references made into one. Raises ValueError when they cannot be; see `combine_two`."""
    if first.adapter is not second.adapter and first.adapter.fingerprint != second.adapter.fingerprint:
        raise ValueError(
            f"Embeds of one adapter were expected; they are of {first.adapter.name} and {second.adapter.name}. Encode "
            "both with the same adapter, or give each an Apply of its own."
        )
    tokens = combine_two(first.tokens, second.tokens, method, weights)
    return InstructEmbeds.of(first.adapter, _joined((first.instruction, second.instruction), weights), tokens)


@dataclass(frozen=True, eq=False)
class Reference:
    """Pictures that are read by one instruction and act with one weight."""

    pictures: References
    instruction: str
    weight: float = 1.0


def encode_references(
    adapter: LoadedAdapter, clip, clip_vision, references: Sequence[Reference], prompts: tuple[str, str]
) -> InstructEmbeds:
    """Image tokens of every reference, each by its own instruction; prompts: the prompt and the negative one."""
    weights = [one.weight for one in references]
    check_weights(weights, len(references), "the references' weights")
    used = [one for one in references if one.weight]
    for one in used:
        one.pictures.check()
    encoded = [
        (encode_instruct(adapter, clip, clip_vision, one.pictures, Texts(one.instruction, *prompts)).tokens, one.weight)
        for one in used
    ]
    return InstructEmbeds.of(adapter, _joined([one.instruction for one in references], weights), concatenate(encoded))


def _joined(instructions: Sequence[str], weights: Sequence[float]) -> str:
    """The instructions that act, in which `auto` looks for the words it knows."""
    return "; ".join(dict.fromkeys(text for text, weight in zip(instructions, weights, strict=True) if weight))
