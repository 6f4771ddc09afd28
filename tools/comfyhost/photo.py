"""A real photograph to work on, from scikit-image (NASA, public domain)."""

from __future__ import annotations

from pathlib import Path

from comfyhost.places import ToolError


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
