"""Turn reference images into features, by ComfyUI's CLIP vision models. Each image is encoded once.

Axes: B images, N patches and class token, D width.
"""

import hashlib
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import comfy.clip_vision
import comfy.model_management as mm
import torch
from torch import Tensor

from ..bounded_cache import EncoderCache
from ..files.encoder_files import EncoderNeed, EncoderSizes, check_sizes, wrong_encoder
from ..files.tensor_files import wrong_suffix
from .features import Features, stacked
from .pixels import CENTER_CROP, pixel_values

CACHED_IMAGES = 32  # 1.3 MB each at ViT-H
BATCH = 4


class EncoderFile:
    """An image encoder chosen by file, read when first needed and shared by all loaders that chose it."""

    _shared: weakref.WeakValueDictionary = weakref.WeakValueDictionary()

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = path
        self.model = None  # ComfyUI's ClipVisionModel

    def load(self):
        """Return the ComfyUI ClipVisionModel. Raises ValueError for a file that is not an image encoder."""
        if self.model is not None:
            return self.model
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ValueError(
                f"The image encoder {self.name} was expected at {self.path}; the system says: {error.strerror}. It was "
                "moved or deleted meanwhile. Put it back, or refresh the page (R) and choose another one, or 'auto'."
            ) from error
        key = (str(self.path), stat.st_mtime_ns, stat.st_size)
        self.model = self._shared[key] = self._shared.get(key) or self._read()
        return self.model

    def _read(self):
        try:
            model = comfy.clip_vision.load(str(self.path))
        except Exception as error:  # the host's own, of many kinds: it trusts the file to be an encoder
            misnamed = wrong_suffix(self.path)  # by which the host reads it
            if misnamed:
                raise ValueError(
                    f"The image encoder {self.name} was expected to be of the format that its name says; {misnamed}"
                ) from error
            raise ValueError(
                f"{self.name} was expected to be an image encoder; ComfyUI cannot read it ({error!r}). "
                "It is damaged or another kind of file: download it again, choose another one, or 'auto'."
            ) from error
        if model is None:
            raise ValueError(
                f"{self.name} was expected to be an image encoder; ComfyUI knows no encoder with its tensors. "
                "Choose another one, or 'auto'."
            )
        return model


def check_encoder(clip_vision, need: EncoderNeed, name: str) -> None:
    """Raises ValueError, which calls it `name`, unless a CLIP_VISION is a CLIP image encoder that meets the need."""
    sizes = sizes_of(clip_vision)
    if sizes is None:
        raise ValueError(wrong_encoder(f"{name} is no CLIP image encoder with a class token", need))
    check_sizes(sizes, need, name)


def sizes_of(clip_vision) -> EncoderSizes | None:
    """Return the sizes of a CLIP_VISION, ComfyUI's or this pack's; None unless it is CLIP's, with a class token."""
    if isinstance(getattr(clip_vision, "sizes", None), EncoderSizes):
        return clip_vision.sizes
    embeddings: Any = getattr(getattr(clip_vision.model, "vision_model", None), "embeddings", None)
    if getattr(embeddings, "class_embedding", None) is None:
        return None
    projection = getattr(getattr(clip_vision.model, "visual_projection", None), "weight", None)
    return EncoderSizes(
        width=embeddings.patch_embedding.weight.shape[0],
        projection_width=None if projection is None else projection.shape[0],
        positions=embeddings.position_embedding.weight.shape[0],
    )


def image_features(clip_vision, image: Tensor, mask: Tensor | None = None, fit: str = CENTER_CROP) -> Features:
    """Return the encoder's features of images [B, H, W, C] in 0..1, float32.

    mask: [B or 1, h, w]; outside it the encoder sees zeros, what the unconditional image is made of.
    """
    return FeatureCache.of(clip_vision).features(pixel_values(clip_vision, image, mask, fit))


def zero_hidden_states(clip_vision) -> Tensor:
    """Return the hidden states [1, N, D] of an image that is zero after normalisation: the unconditional image."""
    return FeatureCache.of(clip_vision).zero_hidden_states


class FeatureCache(EncoderCache[Features]):
    """The features of one encoder's last images.

    ComfyUI runs the whole Encode node again when a text changes; the image encoder must not run again with it.
    """

    most = CACHED_IMAGES

    def features(self, pixels: Tensor) -> Features:
        """Return the features of each image, from normalised pixels [B, 3, size, size]."""
        keys = [hashlib.blake2b(image.cpu().numpy().tobytes()).digest() for image in pixels]
        missing = {key: image for key, image in zip(keys, pixels, strict=True) if key not in self}
        made = iter(self._encode(torch.stack(list(missing.values()))) if missing else ())
        found = [self.get(key, made.__next__) for key in keys]
        self.forget_oldest()
        return stacked(found)

    @cached_property
    def zero_hidden_states(self) -> Tensor:
        size = self.owner().image_size
        return cast(Tensor, self._encode(torch.zeros(1, 3, size, size))[0].hidden_states)

    def _encode(self, pixels: Tensor) -> list[Features]:
        features = []
        for batch in pixels.split(BATCH):
            mm.throw_exception_if_processing_interrupted()
            features += encode_pixels(self.owner(), batch).split(1)
        return features


def encode_pixels(clip_vision, pixels: Tensor) -> Features:
    """Return the encoder's features of normalised pixels [B, 3, size, size], float32.

    Hidden states before the last layer, without the closing norm: `hidden_states[-2]` of transformers' model; and its
    `image_embeds`, where the encoder has a projection.
    """
    mm.load_models_gpu([clip_vision.patcher])
    with torch.no_grad():
        outputs = clip_vision.model(
            pixel_values=pixels.to(clip_vision.load_device, torch.float32), intermediate_output=-2
        )
    hidden_states, image_embeds = (x.to(mm.intermediate_device(), torch.float32) for x in outputs[1:3])
    sizes = sizes_of(clip_vision)
    return Features(hidden_states, image_embeds if sizes and sizes.projection_width else None)
