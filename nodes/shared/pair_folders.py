"""Folders of pairs in ComfyUI's input folder, and in its folder `datasets` where it has one."""

from pathlib import Path

import folder_paths

from ...models.messages import shown

LINES = "pairs.jsonl"
DATASETS = "datasets"  # a kind of folder that newer versions of ComfyUI know
DEPTHS = (f"*/{LINES}", f"*/*/{LINES}")  # a set, and the sets of single tasks in it


def pair_folders() -> list[str]:
    """Return the names of all folders with pairs, as `pair_folder` takes them."""
    return sorted(_found())


def pair_folder(name: str) -> Path:
    """Return the path of a folder of pairs. Raises ValueError for one that is not listed."""
    found = _found().get(name)
    if found is None:
        raise ValueError(
            f"A folder {shown(name)} with {LINES} was expected in {' or '.join(map(str, _roots()))}; there is none. "
            "Put the folder that cli.py pairs wrote there, refresh the page (R), and choose it."
        )
    return found


def stamp_of_pairs(name: str) -> list:
    """Return what changes once the list of a folder's pairs has changed; nothing for a folder that is not there."""
    found = _found().get(name)
    return [str(found), (found / LINES).stat().st_mtime_ns, (found / LINES).stat().st_size] if found else []


def _found() -> dict[str, Path]:
    lists = ((root, path) for root in _roots() for pattern in DEPTHS for path in root.glob(pattern))
    return {path.parent.relative_to(root).as_posix(): path.parent for root, path in lists}


def _roots() -> list[Path]:
    known = folder_paths.get_folder_paths(DATASETS) if DATASETS in folder_paths.folder_names_and_paths else []
    return [Path(folder) for folder in (folder_paths.get_input_directory(), *known)]
