"""The pack's own tables for tools, without running its __init__, which is for ComfyUI alone."""

from __future__ import annotations

import importlib
import sys
import types

from comfyhost.places import REPO_ROOT

NAME = "ipadapter_instruct_tables"


def pack_module(name: str) -> types.ModuleType:
    """A module of the pack, such as models.tasks. The repository's root must not be on sys.path."""
    if NAME not in sys.modules:
        package = types.ModuleType(NAME)
        package.__path__ = [str(REPO_ROOT)]
        sys.modules[NAME] = package
    return importlib.import_module(f"{NAME}.{name}")
