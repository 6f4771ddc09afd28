"""The pack's own modules for tools and tests, without running its __init__, which is for ComfyUI alone."""

from __future__ import annotations

import importlib
import sys
import types

from comfyhost.places import REPO_ROOT

NAME = "ipadapter_instruct_tables"


def pack_module(name: str) -> types.ModuleType:
    """A module of the pack, such as models.tasks."""
    register(NAME)
    return importlib.import_module(f"{NAME}.{name}")


def register(name: str = "ipadapter_instruct") -> None:
    """Make the pack importable by a name, whatever its folder is called.

    The repository's root must not be on sys.path, where its `nodes` would hide ComfyUI's.
    """
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(REPO_ROOT)]
        sys.modules[name] = package
