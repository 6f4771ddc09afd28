"""Files of tensors: read whole or by their headers, without ever running what a pickle carries."""

import pickle
import re
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from ..messages import short
from .pickled_files import ARCHIVE, NotTensorsError, front_of, is_pickled, read_pickled

SAFETENSORS = (".safetensors", ".sft")
# What else stands in models folders, by its first bytes.
BEGINNINGS = (
    (b"GGUF", "a GGUF file, which holds weights in a form of its own"),
    (b"version h", "a Git LFS pointer, which stands for the file itself"),
    *((beginning, "a web page") for beginning in (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
    (ARCHIVE, "a zip archive of other files, to be unpacked"),
    (b"\x1f\x8b", "a gzip archive, to be unpacked"),
    (b"7z\xbc\xaf", "a 7z archive, to be unpacked"),
    (b"Rar!", "a RAR archive, to be unpacked"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
DOWNLOAD_AGAIN = "Download it again and compare its size."
PACK = "ComfyUI-IPAdapter-Instruct"


class AdapterFileError(ValueError):
    """A file that is not a usable adapter; the message says what was found and what to do."""


def read_shapes(path: Path) -> dict[str, Tensor]:
    """Return the tensors as `read_file` does, but on the meta device: the shapes, without the numbers."""
    return read_file(path, "meta")


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a .safetensors file says beside its tensors; nothing for another kind of file or a damaged one."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, RuntimeError):
        return {}


def read_file(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Return all tensors of a .safetensors or .bin file, under dotted names.

    Pickled files are read with weights only: code in them never runs.
    Raises AdapterFileError when the file is damaged, carries code, or holds no tensors.
    """
    try:
        check_is_file(path)
        # A damaged one is known by its name.
        if _has_header(path) or path.suffix.lower() in SAFETENSORS:
            with safetensors.safe_open(path, framework="pt") as file:
                names = file.keys()
                if device == "meta":
                    return {name: torch.empty(file.get_slice(name).get_shape(), device=device) for name in names}
                return {name: file.get_tensor(name) for name in names}
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
    """Raises AdapterFileError for a folder, a pipe or a device.

    Opening a pipe would wait for ever, and reading a device may never end. What is not there, or behind a broken link,
    is left to the opening, which says why.
    """
    if path.is_file() or not path.exists():
        return
    found = "a folder" if path.is_dir() else "a pipe or a device"
    raise AdapterFileError(
        f"{path.name} was expected to be a file of tensors; it is {found}. Put the file itself there, or choose "
        "another one."
    )


def _has_header(path: Path) -> bool:
    """True for a file that begins as one of safetensors does: with a JSON header's length, then the header."""
    return front_of(path)[8:9] == b"{"


def wrong_suffix(path: Path) -> str:
    """Say what a file holds when its name says another format, and what to do; "" when it may be as its name says."""
    try:
        named, header = path.suffix.lower() in SAFETENSORS, _has_header(path)
        pickled = not header and is_pickled(path)
    except OSError:
        return ""
    if named and pickled:
        holds, suffix = "torch.save's", ".bin"
    elif header and not named:
        holds, suffix = "of the format safetensors", ".safetensors"
    else:
        return ""
    return f"what it holds is {holds}. Rename it to end in {suffix}, refresh the page (R) and choose it again."


def _unreadable(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return (
            f"{path.name} was expected to hold tensors only; it also asks Python to run {short(code[1])}. "
            "Nothing in it was run. Get the file again from a source you trust, as .safetensors if there is one."
        )
    misnamed = wrong_suffix(path)
    if misnamed:
        return f"{path.name} was expected to be of the format that its name says; {misnamed}"
    reason, damage = "", "cut short, damaged"
    if isinstance(error, NotTensorsError):
        reason, damage = f": it {error}", "damaged, packed"
    elif isinstance(error, safetensors.SafetensorError):
        reason = f" ({short(error)})"
    try:
        size, front = path.stat().st_size, b"" if _has_header(path) or is_pickled(path) else front_of(path)
    except OSError:  # gone meanwhile
        size, front = 0, b""
    otherwise = f"{damage}, or something else under this name, such as a web page"
    content = next((what for beginning, what in BEGINNINGS if front.startswith(beginning)), otherwise)
    return (
        f"{path.name} was expected to be a file of tensors; its {size:,} bytes cannot be read as one{reason}. "
        f"It is {content}. Nothing in it was run. {DOWNLOAD_AGAIN}"
    )
