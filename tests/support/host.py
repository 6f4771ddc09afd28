"""The real ComfyUI, imported into the test process. Import this before anything of comfy."""

import sys

from comfyhost.places import host

COMFYUI = host().comfyui

if str(COMFYUI) not in sys.path:
    sys.path.insert(0, str(COMFYUI))
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management  # noqa: F401
