"""A folder of adapters that ComfyUI may not read, or that is a file: the host lists it as empty, the pack says why."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import pytest
from ipadapter_instruct.nodes.shared.folders import adapter_path, encoder_path, unreadable
from support.refusals import refused

NOBODY = 65534


@pytest.fixture
def place(monkeypatch) -> Iterator[Path]:
    """A folder for adapters and encoders, below one that everybody may look into."""
    base = Path(tempfile.mkdtemp(prefix="adapters-"))
    base.chmod(0o755)
    found = base / "models"
    for kind in ("ipadapter", "clip_vision"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(found)], {".safetensors"}))
        folder_paths.filename_list_cache.pop(kind, None)
    yield found
    for kind in ("ipadapter", "clip_vision"):
        folder_paths.filename_list_cache.pop(kind, None)
    shutil.rmtree(base)


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Run as somebody who may not read the folder; root may read all, and becomes somebody else meanwhile."""
    was_root = os.geteuid() == 0
    folder.chmod(0o000)
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights are other ones on Windows")
def test_a_folder_without_the_right_to_read_it_is_named_with_what_the_system_says(place):
    place.mkdir()
    (place / "a.safetensors").touch()
    assert adapter_path("a.safetensors") == place / "a.safetensors"
    with without_rights(place):
        assert folder_paths.get_filename_list_("ipadapter")[0] == []
        refused(
            lambda: adapter_path("a.safetensors"),
            "is not there",
            f"{place} cannot be read (Permission denied): make it a folder that ComfyUI may read. Put it there, or",
        )
    assert unreadable("ipadapter") == ""


def test_a_file_in_the_place_of_a_folder_is_named(place):
    place.touch()
    said = f"{place} cannot be read (Not a directory)"
    refused(lambda: adapter_path("a.safetensors"), said)
    refused(lambda: encoder_path("clip_vision", "a.safetensors"), said, "Put it there, or refresh")


def test_a_folder_that_is_not_there_is_only_where_to_put_the_file(place):
    refused(lambda: adapter_path("a.safetensors"), f"was expected in {place} and is not there. Put it there")
