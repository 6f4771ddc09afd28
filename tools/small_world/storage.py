"""Where the small world is kept while it is made, and states of training that outlive a kill."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from comfyhost.places import cache_folder
from comfyhost.standins import whole
from safetensors.torch import save_file

LOG = logging.getLogger(__name__)


def world_folder() -> Path:
    """The folder in the cache for what is trained or rebuilt; made when it is not there."""
    folder = cache_folder() / "small-world"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, note: str) -> None:
    """A safetensors file with a note on what it is."""
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as partial:
        save_file(plain, partial, metadata={"small world": note})


def save_state(path: Path, **parts: Any) -> None:
    """The state of a training, to be resumed."""
    with whole(path) as partial:
        torch.save(parts, partial)


def saved_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote last, or None."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def log_to(path: Path) -> None:
    """Have this package's progress in a file and on the terminal."""
    handlers = [logging.FileHandler(path), logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)
