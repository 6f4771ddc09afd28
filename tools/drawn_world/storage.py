"""The drawn world's files: the folders they lie in, and how models are made small to be stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from comfyhost.places import cache_folder
from comfyhost.standins import whole
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

NOTE = "drawn world"
BYTES, SCALE = ".bytes", ".scale"
LARGE, MOST = 4096, 127
STORED = Path(__file__).with_name("stored")


def world_folder() -> Path:
    """The folder for all that is fetched, trained or rebuilt; made when it is not there."""
    folder = Path(os.environ.get("DRAWN_WORLD") or cache_folder() / "drawn-world")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stored_path(name: str) -> Path:
    return STORED / f"{name}.safetensors"


def stored(name: str) -> dict[str, Tensor]:
    """A model's tensors as they are stored in the repository, in single precision."""
    return restored(load_file(stored_path(name)))


def hash_of(paths: Iterable[Path]) -> str:
    """A hash of files' contents."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def save_tensors(tensors: Mapping[str, Tensor], path: Path, note: str) -> None:
    """Write a safetensors file with a note on what it is."""
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as partial:
        save_file(plain, partial, metadata={NOTE: note})


def note_of(path: Path) -> str | None:
    """The note in a file of tensors; None where there is no file."""
    return metadata_of(path).get(NOTE)


def metadata_of(path: Path) -> Mapping[str, str]:
    """The metadata of a file of tensors; none where there is no file."""
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


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
    """The tensors that `compact` was given, in single precision and nearly the same."""
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name in [name for name in whole if name.endswith(BYTES)]:
        rows, plain = whole.pop(name).float(), name.removesuffix(BYTES)
        scale = whole.pop(plain + SCALE)
        whole[plain] = rows * scale.reshape(-1, *(1,) * (rows.ndim - 1))
    return whole
