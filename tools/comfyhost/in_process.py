"""The real ComfyUI, and the pack's own modules, in the process that calls this."""

import importlib
import sys
import types
from collections.abc import Sequence

from comfyhost.places import REPO_ROOT, ToolError, host

PACK = "ipadapter_instruct"


def pack_module(name: str) -> types.ModuleType:
    """A module of the pack, such as models.tasks."""
    register()
    return importlib.import_module(f"{PACK}.{name}")


def register() -> None:
    """Make the pack importable by one name, without running its __init__, which is for ComfyUI alone.

    The repository's root must not be on sys.path, where its `nodes` would hide ComfyUI's.
    """
    if PACK not in sys.modules:
        sys.modules[PACK] = types.ModuleType(PACK)
        sys.modules[PACK].__path__ = [str(REPO_ROOT)]


def import_comfyui(arguments: Sequence[str] = ("main.py", "--cpu")) -> None:
    """Make `comfy` importable, as main.py with these arguments has it; it reads sys.argv while it is imported."""
    comfyui = host().comfyui
    if not (comfyui / "comfy").is_dir():
        raise ToolError(f"There is no ComfyUI in {comfyui}. Run `make setup`, or set COMFYUI_PATH to a ComfyUI folder.")
    if str(comfyui) in sys.path:
        return
    own_arguments, sys.argv = sys.argv, list(arguments)
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  (reads them)
    import utils.extra_config  # noqa: F401  (first, as in main.py: its nodes.py puts another `utils` on sys.path)

    sys.argv = own_arguments
