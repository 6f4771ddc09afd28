"""Where the drawn world is kept while it is made, and states of training that outlive a kill."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from comfyhost.places import cache_folder
from comfyhost.standins import whole
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

NOTE = "drawn world"
BYTES, SCALE = ".bytes", ".scale"
LARGE, MOST = 4096, 127
STORED = Path(__file__).with_name("stored")


def world_folder() -> Path:
    """The folder for what is fetched, trained or rebuilt; made when it is not there."""
    folder = Path(os.environ.get("DRAWN_WORLD") or cache_folder() / "drawn-world")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_tensors(tensors: dict[str, Tensor], path: Path, note: str) -> None:
    """A safetensors file with a note on what it is."""
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as partial:
        save_file(plain, partial, metadata={NOTE: note})


def note_of(path: Path) -> str | None:
    """The note in a file of tensors; None where there is no file."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(NOTE)


def compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half precision; of large matrices a byte a number, with a scale for each row."""
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            small[name] = tensor
        elif tensor.ndim < 2 or tensor.numel() < LARGE:
            small[name] = tensor.half()
        else:
            scale = (tensor.float().flatten(1).abs().amax(1) / MOST).clamp(min=1e-6).half()
            rows = tensor.float().flatten(1) / scale.float()[:, None]
            small[name + BYTES] = rows.round().clamp(-MOST, MOST).to(torch.int8).reshape(tensor.shape)
            small[name + SCALE] = scale
    return small


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `compact` was given, in single precision and nearly the same."""
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name in [name for name in whole if name.endswith(BYTES)]:
        rows, plain = whole.pop(name).float(), name.removesuffix(BYTES)
        scale = whole.pop(plain + SCALE)
        whole[plain] = rows * scale.reshape(-1, *(1,) * (rows.ndim - 1))
    return whole


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
