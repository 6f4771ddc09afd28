"""The pack's model folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..models.families import FAMILIES, SD15


def adapter_path(name: str) -> Path:
    """Where an adapter chosen by name is. Raises ValueError, which says where to get it, when it is not there."""
    path = folder_paths.get_full_path("ipadapter", name)
    if path is None:
        folders = ", ".join(folder_paths.get_folder_paths("ipadapter"))
        family = next((f for f in FAMILIES if f.published_file == name), SD15)
        raise ValueError(
            f"{name} was expected in {folders} and is not there. Get {family.url} and put it there, or choose another."
        )
    return Path(path)
