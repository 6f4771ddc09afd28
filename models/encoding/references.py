"""References as they come from the graph: images or what an encoder has read of them, with words and weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor

from ..files.encoder_files import EncoderNeed, encoder_title
from ..messages import check_choice, check_numbers
from ..reference.faces import Faces
from .combining import CONCAT, MODES
from .pixels import CENTER_CROP, FITS, check_image, mask_batch

MOST_WEIGHT = 3.0
MOST_STRUCTURE = 5.0
VIT_LENGTH = 257  # a class token and 16 x 16 patches


@dataclass(frozen=True, eq=False)
class Images:
    """The images [B, H, W, C] of a reference, and how they meet the encoder's square; mask [B or 1, h, w] or None.

    Raises ValueError for images or masks that cannot be used.
    """

    image: Tensor
    mask: Tensor | None = None
    fit: str = CENTER_CROP

    def __post_init__(self):
        check_choice("fit", self.fit, FITS)
        check_image(self.image)
        masks, images = 1 if self.mask is None else len(mask_batch(self.mask, "image_mask")), len(self.image)
        if masks not in (1, images):
            raise ValueError(
                f"image_mask was expected to be one mask for all, or one for each of the {images} picture(s); it is "
                f"{masks} masks. Connect a single mask, or a batch as long as the image's."
            )

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Return at most `size` images at a time, with their masks."""
        masks = None if self.mask is None else mask_batch(self.mask, "image_mask")
        each = repeat(masks) if masks is None or len(masks) == 1 else masks.split(size)
        return zip(self.image.split(size), each, strict=False)


@dataclass(frozen=True, eq=False)
class Stored:
    """Features that another node has read of images.

    output: ComfyUI's CLIP_VISION_OUTPUT, or None. embeds, blank: IPAdapter Plus's embeds of the images and of no
    image, or None.
    """

    output: object = None
    embeds: Tensor | None = None
    blank: Tensor | None = None

    def features(self, need: EncoderNeed) -> Tensor:
        """Return what an adapter needs of the images: hidden states [n, N, D], or embeds [n, D]. Raises ValueError."""
        if self.embeds is not None:
            return _checked("embeds", self.embeds, need)
        part = "image_embeds" if need.image_embeds else "penultimate_hidden_states"
        return _checked("clip_vision_output", getattr(self.output, part, None), need)

    def blank_features(self, need: EncoderNeed) -> Tensor | None:
        """Return what stands for no image, [1, ...], if it is known. Raises ValueError, also for different images."""
        if self.blank is None:
            return None
        blank = _checked("neg_embeds", self.blank, need)
        if not torch.equal(blank, blank[:1].expand_as(blank)):
            raise ValueError(
                f"neg_embeds was expected to be one blank picture's; it is {len(blank)} different pictures'. Connect "
                "the neg_embed of one IPAdapter Encoder, or nothing."
            )
        return blank[:1]


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference: images or stored features or neither, and a face for adapters that read one.

    instruction: "" for Encode's. negative_instruction: what to leave behind; "" for nothing. weight: beside the other
    references. structure: how much FaceID-PlusV2 takes from the face's image. Raises ValueError beyond their range.
    """

    images: Images | None = None
    stored: Stored | None = None
    faces: Faces | None = None
    instruction: str = ""
    negative_instruction: str = ""
    weight: float = 1.0
    structure: float = 1.0

    def __post_init__(self):
        check_numbers(-MOST_WEIGHT, MOST_WEIGHT, weight=self.weight)
        check_numbers(0.0, MOST_STRUCTURE, face_structure=self.structure)


@dataclass(frozen=True, eq=False)
class References:
    """A row of references, and how they act together: one of MODES."""

    row: tuple[Reference, ...]
    mode: str = CONCAT

    def then(self, reference: Reference, mode: str) -> "References":
        """Return the row with a further reference. Raises ValueError where one before asks for another mode."""
        check_choice("combine", mode, MODES)
        if self.mode not in (CONCAT, mode):
            raise ValueError(
                f"Choose {self.mode} in combine here, too: references of one row were expected to act in one way; one "
                f"before says {self.mode}, this one {mode}."
            )
        return replace(self, row=(*self.row, reference), mode=mode)


def one_image(image: Tensor) -> References:
    """Return an image, or a batch of images, as a row."""
    return References((Reference(Images(image)),))


def _checked(name: str, features, need: EncoderNeed) -> Tensor:
    positions = (need.encoder and need.encoder.sizes.positions) or VIT_LENGTH
    shape = [need.width] if need.image_embeds else [positions, need.width]
    what = "pooled embeds" if need.image_embeds else "penultimate hidden states"
    expected = f"{name} was expected to be the {what} of {need.title}, [n, {', '.join(map(str, shape))}]"
    if not isinstance(features, Tensor):
        raise ValueError(f"{expected}; it is {type(features).__name__}. {_remedy(need)}")
    found = list(features.shape)
    if 0 in found or found[1:] != shape:
        raise ValueError(f"{expected}; it is {found}, {_what(found, need)}. {_remedy(need)}")
    if not torch.isfinite(features).all():
        raise ValueError(f"{expected}; some of its values are NaN or infinite. Encode the picture again.")
    return features.float()


def _what(shape: list[int], need: EncoderNeed) -> str:
    if 0 in shape:
        return "no picture at all"
    if len(shape) == 2 and need.image_embeds:
        return f"pooled embeds {shape[1]} wide, of another encoder"
    if len(shape) == 2:
        return "pooled embeds, as of a base IP-Adapter or a FaceID one, which have lost the positions in the picture"
    if len(shape) == 4:
        return "embeds that an old IPAdapter Plus saved, with and without the picture in one"
    if len(shape) == 3 and (need.image_embeds or shape[2] != need.width):
        return f"hidden states of {encoder_title(shape[2])}"
    if len(shape) == 3:
        return f"hidden states of {shape[1]} positions, of pictures that are not 224 pixels large, or of something else"
    return "something else"


def _remedy(need: EncoderNeed) -> str:
    kind = "base" if need.image_embeds else "Plus"
    return (
        f"Encode the picture with {need.title}: CLIP Vision Encode, or IPAdapter Encoder with a {kind} model; "
        "or connect the picture itself to image."
    )
