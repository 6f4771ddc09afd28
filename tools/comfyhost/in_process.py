"""The real ComfyUI and the pack, imported into the process that calls this."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from comfyhost.places import REPO_ROOT, ToolError, host

PACK = "ipadapter_instruct"


def import_comfyui(arguments: Sequence[str] = ("main.py", "--cpu")) -> None:
    """Make `comfy` importable, as main.py with these arguments has it; it reads sys.argv while it is imported.

    Raises ToolError where there is no ComfyUI.
    """
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


def import_pack() -> None:
    """Make the pack importable as `ipadapter_instruct`, as ComfyUI does, which must be importable by now.

    The repository's root must not be on sys.path: its `nodes` would hide ComfyUI's.
    """
    if PACK in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(PACK, REPO_ROOT / "__init__.py")
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])
