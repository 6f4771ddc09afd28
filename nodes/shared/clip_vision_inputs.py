"""Check what an image encoder has read of pictures before, as other nodes hand it over, or say what it is instead."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.files.encoder_files import EncoderNeed, encoder_title

VIT_LENGTH = 257  # a class token and 16 x 16 patches


def picture_states(clip_vision_output, embeds, need: EncoderNeed) -> Tensor:
    """Return what an adapter needs of the pictures from the connected input: [n, places, width] or pooled [n, width].

    Raises ValueError.
    """
    if (clip_vision_output is None) == (embeds is None):
        found = "neither is" if embeds is None else "both are"
        raise ValueError(
            f"Either clip_vision_output or embeds was expected to be connected; {found}. Connect CLIP Vision Encode "
            "to the one, or IPAdapter Encoder (pos_embed) or IPAdapter Load Embeds to the other."
        )
    if embeds is not None:
        return _states("embeds", embeds, need)
    part = "image_embeds" if need.pooled else "penultimate_hidden_states"
    return _states("clip_vision_output", getattr(clip_vision_output, part, None), need)


def blank_states(neg_embeds, need: EncoderNeed) -> Tensor | None:
    """Return what stands for no picture, [1, ...], from neg_embeds; None where that is not connected.

    Raises ValueError, also for several different pictures.
    """
    if neg_embeds is None:
        return None
    states = _states("neg_embeds", neg_embeds, need)
    if not torch.equal(states, states[:1].expand_as(states)):
        raise ValueError(
            f"neg_embeds was expected to be one blank picture's; it is {len(states)} different pictures'. Connect the "
            "neg_embed of one IPAdapter Encoder, or nothing."
        )
    return states[:1]


def _states(name: str, states, need: EncoderNeed) -> Tensor:
    shape = [need.width] if need.pooled else [_places(need), need.width]
    what = "pooled embeds" if need.pooled else "penultimate states"
    expected = f"{name} was expected to be the {what} of {need.title}, [n, {', '.join(map(str, shape))}]"
    if not isinstance(states, Tensor):
        raise ValueError(f"{expected}; it is {type(states).__name__}. {_remedy(need)}")
    found = list(states.shape)
    if 0 in found or found[1:] != shape:
        raise ValueError(f"{expected}; it is {found}, {_what(found, need)}. {_remedy(need)}")
    if not torch.isfinite(states).all():
        raise ValueError(f"{expected}; some of its values are NaN or infinite. Encode the picture again.")
    return states.float()


def _places(need: EncoderNeed) -> int:
    known = need.encoder and need.encoder.sizes.places
    return known or VIT_LENGTH


def _what(shape: list[int], need: EncoderNeed) -> str:
    """Return in words what tensors of this shape are."""
    if 0 in shape:
        return "no picture at all"
    if len(shape) == 2 and need.pooled:
        return f"pooled embeds {shape[1]} wide, of another encoder"
    if len(shape) == 2:
        return "pooled embeds, as of a base IP-Adapter or a FaceID one, which have lost the picture's places"
    if len(shape) == 4:
        return "embeds that an old IPAdapter Plus saved, with and without the picture in one"
    if len(shape) == 3 and (need.pooled or shape[2] != need.width):
        return f"states of {encoder_title(shape[2])}"
    if len(shape) == 3:
        return f"states of {shape[1]} places, of pictures in another size than 224 pixels, or of something else"
    return "something else"


def _remedy(need: EncoderNeed) -> str:
    kind = "base" if need.pooled else "Plus"
    return (
        f"Encode the picture with {need.title}: CLIP Vision Encode, or IPAdapter Encoder with a {kind} model; "
        "or connect the picture itself to Encode Instruct Prompt."
    )
