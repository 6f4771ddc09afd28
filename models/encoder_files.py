"""Image encoder files, recognised by a look at their headers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import safetensors

VIT_H_FILE = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
VIT_H_URL = "https://huggingface.co/h94/IP-Adapter/resolve/main/models/image_encoder/model.safetensors"

PATCH_EMBEDDINGS = ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight")
ENCODERS_BY_WIDTH = {
    768: "ViT-B",
    1024: "ViT-L",
    1152: "SigLIP so400m",
    1280: "ViT-H",
    1536: "DINOv2 giant",
    1664: "ViT-bigG",
}


def encoder_title(width: int) -> str:
    """A name people know for an image encoder of this hidden width."""
    name = ENCODERS_BY_WIDTH.get(width)
    return f"{name} ({width} wide)" if name else f"an encoder {width} wide"


def encoder_width(path: Path) -> int | None:
    """Hidden width of the image encoder in a .safetensors file, from its header alone.

    None for any other kind of file, and for one that cannot be read.
    """
    if path.suffix.lower() not in (".safetensors", ".sft"):
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            embedding = next((name for name in PATCH_EMBEDDINGS if name in names), None)
            return file.get_slice(embedding).get_shape()[0] if embedding else None
    except (safetensors.SafetensorError, OSError):
        return None


def find_encoder(files: Iterable[tuple[str, Path]], width: int) -> str | None:
    """The first name among (name, path) whose file is an encoder of this width, or None."""
    return next((name for name, path in files if encoder_width(path) == width), None)


def wrong_encoder(found: str, needed_width: int) -> str:
    """The message for an image encoder that does not fit."""
    return f"This adapter needs the image encoder {encoder_title(needed_width)}; {found}. {get_encoder(needed_width)}"


def get_encoder(width: int) -> str:
    """Which file to get for an adapter that needs an encoder of this width, and where to put it."""
    if width != 1280:
        return "Get the image encoder that the adapter's page names, into models/clip_vision, and choose it."
    return f"Get {VIT_H_URL} , save it as models/clip_vision/{VIT_H_FILE} and choose it, or 'auto'."
