"""The real ComfyUI in this process, as its server has it with --cpu: `from small_world.in_process import comfy`."""

from __future__ import annotations

import sys

from comfyhost.places import ToolError, host

HOST_ARGUMENTS = ["main.py", "--cpu"]


def import_comfyui() -> None:
    """ComfyUI reads sys.argv while it is imported."""
    comfyui = host().comfyui
    if not (comfyui / "comfy").is_dir():
        raise ToolError(f"There is no ComfyUI at {comfyui}. Run `make setup`, or set COMFYUI_PATH to one of your own.")
    if str(comfyui) in sys.path:
        return
    own_arguments, sys.argv = sys.argv, HOST_ARGUMENTS
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management  # noqa: F401  (reads the arguments)
    import utils.extra_config  # noqa: F401  (as main.py does, before nodes.py hides this package by comfy/utils.py)

    sys.argv = own_arguments


import_comfyui()

import comfy.clip_vision  # noqa: E402
import comfy.latent_formats  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.taesd.taesd  # noqa: E402

__all__ = ["comfy"]
