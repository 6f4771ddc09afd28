"""The shipped workflows' inputs: a photograph, from scikit-image (NASA, public domain), and a made-up face."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from comfyhost.places import ToolError

FACE_FILE = "face_00001_.face.safetensors"


def write_examples(base: Path) -> None:
    """Put both where a server with this base folder looks for them."""
    for folder in (base / "input", base / "output" / "faces"):
        folder.mkdir(parents=True, exist_ok=True)
    write_photo(base / "input" / "example.png")
    write_face(base / "output" / "faces" / FACE_FILE)


def write_face(path: Path) -> None:
    """Write 512 random numbers in place of a face's, as Instruct Read Face would save them."""
    embedding = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    save_file({"face_embedding": embedding}, path)


def write_photo(path: Path) -> None:
    """Write the photograph of an astronaut, 512 x 512, as PNG."""
    try:
        from skimage import data, io
    except ImportError as error:
        raise ToolError(
            f"The photograph comes with scikit-image, which is missing ({error}). "
            "Install it: python -m pip install scikit-image"
        ) from error
    io.imsave(path, data.astronaut(), check_contrast=False)
