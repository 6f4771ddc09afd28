"""The real ComfyUI, imported into the process that calls this; the pack, see `pack.register`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from comfyhost.places import ToolError, host


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
