"""The real ComfyUI, imported into the test process as its server would be; a `conftest.py` imports this first."""

import sys

import torch
from comfyhost.in_process import import_comfyui
from comfyhost.places import host

COMFYUI = host().comfyui

if str(COMFYUI) not in sys.path:
    torch.set_num_threads(1)  # the models are small and the test workers many
    import_comfyui()
    import comfy.model_management  # noqa: F401
