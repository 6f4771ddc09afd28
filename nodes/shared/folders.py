"""Files in ComfyUI's model folders, by the names that workflows choose them by."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths

from ...models.files.encoder_files import EncoderNeed, check_sizes, encoder_sizes, find_encoder
from ...models.files.published_files import ADAPTERS, CLIP_L_FILE, IMAGE_ENCODER
from ...models.messages import LETTERS_SHOWN, called_alike, shown

if TYPE_CHECKING:
    from ...models.encoding.image_encoder import EncoderFile

AUTO = "auto"
PUBLISHED = (*ADAPTERS.values(), IMAGE_ENCODER, CLIP_L_FILE)


def adapter_path(name: str) -> Path:
    """Return the path of an adapter chosen by name, as `encoder_path` does."""
    return encoder_path("ipadapter", name)


def encoder_path(folder: str, name: str) -> Path:
    """Return the path of a file chosen by name, with either system's separator in it.

    Raises ValueError, which says what is there that is called alike and where a published file is to be had.
    """
    path = _path(folder, name)
    if path is not None:
        return path
    folders, names = ", ".join(folder_paths.get_folder_paths(folder)), folder_paths.get_filename_list(folder)
    published = next((file for file in PUBLISHED if file.folder == folder and file.name == _parts(name)[-1]), None)
    get = f"Get {published.url} and put it there" if published else "Put it there"
    raise ValueError(
        f"{_short(name)} was expected in {folders} and is not there. {unreadable(folder)}{called_alike(name, names)}"
        f"{get}, or refresh the page (R) and choose another."
    )


def fitting_encoder(need: EncoderNeed) -> "EncoderFile | None":
    """Return the file in models/clip_vision to use for an adapter, as `find_encoder` chooses it; None without one."""
    from ...models.encoding.image_encoder import EncoderFile

    paths = _paths("clip_vision", *folder_paths.get_filename_list("clip_vision"))
    found = find_encoder(paths.items(), need)
    return None if found is None else EncoderFile(found, paths[found])


def encoder_file(choice: str, need: EncoderNeed) -> "EncoderFile | None":
    """Return the chosen file in models/clip_vision, or what `auto` finds: None when no file fits.

    Raises ValueError for a chosen file whose header says that it does not fit.
    """
    from ...models.encoding.image_encoder import EncoderFile

    if choice == AUTO:
        return fitting_encoder(need)
    path = encoder_path("clip_vision", choice)
    if sizes := encoder_sizes(path):
        check_sizes(sizes, need, choice)
    return EncoderFile(choice, path)


def listed_name(folder: str, path: Path) -> str:
    """Return the name by which the host lists a file of this folder, and the file's own name elsewhere."""
    roots = (root for root in map(Path, folder_paths.get_folder_paths(folder)) if path.is_relative_to(root))
    return next((str(path.relative_to(root)) for root in roots), path.name)


def unreadable(folder: str) -> str:
    """Say what is wrong with folders of this kind that are there, a sentence each; the host lists them as empty."""
    sentences = []
    for place in folder_paths.get_folder_paths(folder):
        try:
            os.scandir(place).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            sentences.append(f"{place} cannot be read ({error.strerror}): make it a folder that ComfyUI may read. ")
    return "".join(sentences)


def stamps_of(folder: str, *names: str | None) -> list[list]:
    """Return stamps of files chosen by name, which change once a file has been replaced or changed. None is read.

    There is none for a link (None), nor for a file that is not there.
    """
    return [[str(path), *_stamp(path)] for path in _paths(folder, *names).values()]


def _paths(folder: str, *names: str | None) -> dict[str, Path]:
    """Return the files that are there, by name. A link that leads nowhere is listed by the host, but is no file."""
    return {name: path for name in names if name and (path := _path(folder, name))}


def _path(folder: str, name: str) -> Path | None:
    """Return the file's path, or None.

    The host keeps names inside its folders: it takes them as if the folder were the root of all files.
    A workflow saved on Windows has its separator in names, which other systems take for a letter.
    """
    for spelt in (name, "/".join(_parts(name))):
        try:
            path = folder_paths.get_full_path(folder, spelt)
        except (TypeError, ValueError):  # no text; on Windows, another drive
            return None
        if path is not None:
            return Path(path)
    return None


def _parts(name: object) -> list[str]:
    return str(name).replace("\\", "/").split("/")


def _short(name: object) -> str:
    return name if isinstance(name, str) and 0 < len(name) <= LETTERS_SHOWN else shown(name)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
