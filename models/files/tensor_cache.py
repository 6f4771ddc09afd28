"""A cache of tensors on disk, so that an image or text is encoded once however often a training is started."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .atomic_write import cannot_write, whole

SUFFIX = ".safetensors"
ANOTHER_FOLDER = "choose another folder for the cache"


class TensorCache:
    """A folder of tensors by what they were made of, a file each."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, *made_of: str | bytes) -> Path:
        """Return the file for what is made of these."""
        digest = hashlib.sha256()
        for part in made_of:
            content = part.encode() if isinstance(part, str) else part
            digest.update(len(content).to_bytes(8, "big") + content)
        name = digest.hexdigest()
        return self.folder / name[:2] / (name[2:] + SUFFIX)

    def fill(self, path: Path, make: Callable[[], dict[str, Tensor]]) -> bool:
        """Write what `make` makes, unless it is there and whole; return whether it was made.

        Raises ValueError when the folder cannot be written into.
        """
        if _is_whole(path):
            return False
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as partial:
                save_file(tensors, partial)
        except (OSError, SafetensorError) as error:
            size = sum(tensor.nbytes for tensor in tensors.values())
            raise ValueError(cannot_write("Encoded pairs", path.parent, error, size, ANOTHER_FOLDER)) from error
        return True


def _is_whole(path: Path) -> bool:
    try:
        load_file(path)
    except (OSError, SafetensorError):
        return False
    return True
