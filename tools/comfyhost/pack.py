"""The pack's own modules for tools and tests, without running its __init__, which is for ComfyUI alone."""

from __future__ import annotations

import importlib
import sys
import types

from comfyhost.places import REPO_ROOT

PACK = "ipadapter_instruct"


def pack_module(name: str) -> types.ModuleType:
    """A module of the pack, such as models.tasks."""
    register()
    return importlib.import_module(f"{PACK}.{name}")


def register() -> None:
    """Make the pack importable by one name, whatever its folder is called.

    The repository's root must not be on sys.path, where its `nodes` would hide ComfyUI's.
    """
    if PACK not in sys.modules:
        sys.modules[PACK] = types.ModuleType(PACK)
        sys.modules[PACK].__path__ = [str(REPO_ROOT)]
