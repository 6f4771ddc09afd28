"""Files of tensors: read whole or by their headers, without ever running what a pickle carries."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from .pickled_files import NotTensorsError, read_pickled

DOWNLOAD_AGAIN = "Download it again and compare its size."
SHORT = 120  # letters


class AdapterFileError(ValueError):
    """A file that is not a usable adapter; the message says what was found and what to do."""


def read_file(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or .bin file, under dotted names.

    Pickled files are read with weights only: code in them never runs.
    Raises AdapterFileError when the file is damaged, carries code, or holds no tensors.
    """
    return _read(path, "cpu", lambda file, name: file.get_tensor(name))


def read_shapes(path: Path) -> dict[str, Tensor]:
    """As `read_file`, on the meta device: the shapes, without the numbers."""

    def shape_only(file, name: str) -> Tensor:
        return torch.empty(file.get_slice(name).get_shape(), device="meta")

    return _read(path, "meta", shape_only)


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says beside its tensors. Nothing for other files; damaged ones are `read_file`'s."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, RuntimeError):
        return {}


def _read(path: Path, device: str, get_tensor: Callable[..., Tensor]) -> dict[str, Tensor]:
    try:
        check_is_file(path)
        if _is_safetensors(path):
            with safetensors.safe_open(path, framework="pt") as file:
                return {name: get_tensor(file, name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return read_pickled(path, device)
    except AdapterFileError:
        raise
    except OSError as error:
        raise AdapterFileError(
            f"{path.name} was expected to be a file of tensors; the system refuses to read it: "
            f"{error.strerror or error}. It was moved or deleted meanwhile, or ComfyUI has no right to read it, or the "
            "disk fails. See to that, or choose another file."
        ) from error
    except Exception as error:  # a damaged pickle may lead its reader to any exception
        raise AdapterFileError(_unreadable(path, error)) from error


def check_is_file(path: Path) -> None:
    """Opening a pipe would wait for ever, and reading a device may never end. Raises AdapterFileError.

    What is not there, or behind a broken link, is left to the opening, which says why.
    """
    if path.is_file() or not path.exists():
        return
    found = "a folder" if path.is_dir() else "a pipe or a device"
    raise AdapterFileError(
        f"{path.name} was expected to be a file of tensors; it is {found}. Put the file itself there, or choose "
        "another one."
    )


def some(names: Sequence[str], limit: int, prefix: str = "") -> str:
    """The first of them, for a message, and how many more there are."""
    shown = ", ".join(prefix + short(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def short(words: object) -> str:
    """What comes out of a file, for a message: not too long, and without what a terminal or a page would act on."""
    shown = str(words)
    shown = shown if len(shown) <= SHORT else f"{shown[:SHORT]}..."
    return shown if shown.isprintable() and shown else ascii(shown)


def _is_safetensors(path: Path) -> bool:
    """Whether the content is: the length of a JSON header, then the header. A damaged one is known by its name."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix.lower() in (".safetensors", ".sft")


def _unreadable(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return (
            f"{path.name} was expected to hold tensors only; it also asks Python to run {short(code[1])}. "
            "Nothing in it was run. Get the file again from a source you trust, as .safetensors if there is one."
        )
    if isinstance(error, NotTensorsError):
        return (
            f"{path.name} was expected to be a file of tensors; its {_size(path)} bytes cannot be read as one: it "
            f"{error}. It is damaged, packed, or something else under this name, such as a web page. Nothing in it "
            f"was run. {DOWNLOAD_AGAIN}"
        )
    reason = f" ({short(error)})" if isinstance(error, safetensors.SafetensorError) else ""
    return (
        f"{path.name} was expected to be a file of tensors; its {_size(path)} bytes cannot be read as one{reason}. "
        f"It is cut short, damaged, or something else under this name, such as a web page. "
        f"Nothing in it was run. {DOWNLOAD_AGAIN}"
    )


def _size(path: Path) -> str:
    try:
        return f"{path.stat().st_size:,}"
    except OSError:  # gone meanwhile
        return "0"
