"""The pack's nodes run in this process as ComfyUI's executor runs them, with model folders of their own."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import folder_paths
from comfy_api.latest import io

FOLDERS = ("ipadapter", "clip_vision")


@contextlib.contextmanager
def model_folders(root: Path) -> Iterator[Mapping[str, Path]]:
    """ComfyUI's model folders of the pack replaced by empty ones below `root`, until the end."""
    before = dict(folder_paths.folder_names_and_paths)
    folders = {key: root / key for key in FOLDERS}
    for key, folder in folders.items():
        folder.mkdir()
        folder_paths.folder_names_and_paths[key] = ([str(folder)], folder_paths.supported_pt_extensions)
        folder_paths.filename_list_cache.pop(key, None)
    try:
        yield folders
    finally:
        for key in FOLDERS:
            folder_paths.folder_names_and_paths.pop(key)
            folder_paths.filename_list_cache.pop(key, None)
        folder_paths.folder_names_and_paths.update(before)


def run_node(node: type, **inputs):
    """The NodeOutput of a V3 node, run on a prepared clone of its class."""
    (takes,) = inspect.signature(node.PREPARE_CLASS_CLONE).parameters
    hidden = {io.Hidden.unique_id: "1"}
    clone = node.PREPARE_CLASS_CLONE(hidden if takes == "hidden_inputs" else {"hidden_inputs": hidden})
    return clone.EXECUTE_NORMALIZED(**inputs)
