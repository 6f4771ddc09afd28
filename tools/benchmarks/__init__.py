"""Measurements of the pack in a real ComfyUI. Importing this makes `comfy` and `ipadapter_instruct` importable."""

from __future__ import annotations

import importlib.util
import sys

from comfyhost.places import REPO_ROOT, ToolError, host

PACK = "ipadapter_instruct"
# Of ComfyUI's attentions this is the one whose FLOPs torch counts.
HOST_ARGUMENTS = ["main.py", "--cpu", "--use-pytorch-cross-attention"]


def import_comfyui() -> None:
    """ComfyUI reads sys.argv while it is imported."""
    own_arguments, sys.argv = sys.argv, HOST_ARGUMENTS
    sys.path.insert(0, str(COMFYUI))
    try:
        import comfy.options
    except ModuleNotFoundError:
        sys.exit(f"error: there is no ComfyUI in {COMFYUI}. Run `make setup`, or set COMFYUI_PATH to a ComfyUI folder.")
    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401
    import utils.extra_config  # noqa: F401  (first, as in main.py: its nodes.py puts another `utils` on sys.path)

    sys.argv = own_arguments


def import_pack() -> None:
    """As ComfyUI does it. The repository's root must not be on sys.path: its `nodes` would hide ComfyUI's."""
    spec = importlib.util.spec_from_file_location(PACK, REPO_ROOT / "__init__.py")
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])


try:
    COMFYUI = host().comfyui
except ToolError as error:
    sys.exit(f"error: {error}")
import_comfyui()
import_pack()
