"""A cache of tensors on disk, so that an image or text is encoded once however often a training is started."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .atomic_write import writing

SUFFIX = ".safetensors"


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
        with contextlib.suppress(OSError, SafetensorError):
            load_file(path)
            return False
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        size = sum(tensor.nbytes for tensor in tensors.values())
        with writing(path, "Encoded pairs", size, "choose another folder for the cache") as partial:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial)
        return True
