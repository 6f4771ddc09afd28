"""Measurements of the pack in a real ComfyUI. Importing this makes `comfy` and `ipadapter_instruct` importable."""

import sys

from comfyhost.in_process import import_comfyui, register
from comfyhost.places import ToolError, host

# Of ComfyUI's attentions this is the one whose FLOPs torch counts.
HOST_ARGUMENTS = ["main.py", "--cpu", "--use-pytorch-cross-attention"]


try:
    COMFYUI = host().comfyui
    import_comfyui(HOST_ARGUMENTS)
except ToolError as error:
    sys.exit(f"error: {error}")
register()
