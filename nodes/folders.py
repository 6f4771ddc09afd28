"""Files in ComfyUI's model folders, by the names that workflows choose them by."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ..models.choices import SHOWN, shown
from ..models.families import FAMILIES, SD15


def adapter_path(name: str) -> Path:
    """Where an adapter chosen by name is. Raises ValueError, which says where to get it, when it is not there."""
    path = _path("ipadapter", name)
    if path is None:
        folders = ", ".join(folder_paths.get_folder_paths("ipadapter"))
        family = next((f for f in FAMILIES if f.published_file == name), SD15)
        raise ValueError(
            f"{_short(name)} was expected in {folders} and is not there. {unreadable('ipadapter')}Get {family.url} and "
            "put it there, or choose another."
        )
    return path


def encoder_path(folder: str, name: str) -> Path:
    """Where an encoder chosen by name is. Raises ValueError when it is not there."""
    path = _path(folder, name)
    if path is None:
        folders = ", ".join(folder_paths.get_folder_paths(folder))
        raise ValueError(
            f"{_short(name)} was expected in {folders} and is not there. {unreadable(folder)}Put it there, or refresh "
            "the page (R) and choose another."
        )
    return path


def unreadable(folder: str) -> str:
    """What is wrong with folders of this kind that are there, a sentence each; the host lists them as empty."""
    return "".join(map(_why_not, folder_paths.get_folder_paths(folder)))


def _why_not(place: str) -> str:
    try:
        os.scandir(place).close()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{place} cannot be read ({error.strerror}): make it a folder that ComfyUI may read. "
    return ""


def paths_in(folder: str) -> dict[str, Path]:
    """The files of a folder that are there, by name. A link that leads nowhere is listed, but is none."""
    found = ((name, _path(folder, name)) for name in folder_paths.get_filename_list(folder))
    return {name: path for name, path in found if path is not None}


def stamps(paths: Iterable[Path]) -> list[list]:
    """Something else once a file has been replaced or changed, without reading it."""
    return [[str(path), *_stamp(path)] for path in paths]


def stamps_of(folder: str, name: str | None) -> list[list]:
    """`stamps` of a file chosen by name; of nothing for a link (None) and for a file that is not there."""
    path = _path(folder, name) if name else None
    return stamps([path] if path else [])


def _path(folder: str, name: str) -> Path | None:
    """The host keeps names inside its folders: it takes them as if the folder were the root of all files."""
    try:
        path = folder_paths.get_full_path(folder, name)
    except (TypeError, ValueError):  # no text; on Windows, another drive
        return None
    return None if path is None else Path(path)


def _short(name: object) -> str:
    return name if isinstance(name, str) and len(name) <= SHOWN else shown(name)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
