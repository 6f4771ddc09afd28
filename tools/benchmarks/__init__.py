"""Measurements of the pack in a real ComfyUI. Importing this makes `comfy` and `ipadapter_instruct` importable."""

from __future__ import annotations

import importlib.util
import sys

from comfyhost.in_process import import_comfyui
from comfyhost.places import REPO_ROOT, ToolError, host

PACK = "ipadapter_instruct"
# Of ComfyUI's attentions this is the one whose FLOPs torch counts.
HOST_ARGUMENTS = ["main.py", "--cpu", "--use-pytorch-cross-attention"]


def import_pack() -> None:
    """As ComfyUI does it. The repository's root must not be on sys.path: its `nodes` would hide ComfyUI's."""
    spec = importlib.util.spec_from_file_location(PACK, REPO_ROOT / "__init__.py")
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])


try:
    COMFYUI = host().comfyui
    import_comfyui(HOST_ARGUMENTS)
except ToolError as error:
    sys.exit(f"error: {error}")
import_pack()
