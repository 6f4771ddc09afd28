"""Writing a file so that the whole of it is there in the end, or nothing."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(content: bytes, target: Path, what: str) -> None:
    """what: what is written, in words. Raises ValueError for a target that is there already or cannot be written to."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        if target.exists():
            raise ValueError(f"{target} is there already, and is never written over. Choose another name.")
        try:
            part.write_bytes(content)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(cannot_write(what, target.parent, error, len(content))) from error


def cannot_write(what: str, folder: Path, error: OSError, size: int = 0) -> str:
    """The message for a folder that a file cannot be written into. size: what it needs, in bytes."""
    needed = f" {size / 1e6:.1f} MB are needed." if size else ""
    return (
        f"{what} were to be saved in {folder}; the system refused: {error.strerror or error}.{needed} Make room, "
        "give ComfyUI the right to write there, or choose another filename_prefix. Nothing was left behind."
    )
