"""The real ComfyUI, imported into the test process as its server would be; a `conftest.py` imports this first."""

import sys

import torch
from comfyhost.places import host

COMFYUI = host().comfyui

if not (COMFYUI / "comfy").is_dir():
    raise RuntimeError(f"These tests need ComfyUI, and there is none at {COMFYUI}. Run `make test`, which sets it up.")

if str(COMFYUI) not in sys.path:
    torch.set_num_threads(1)  # the models are small and the test workers many
    sys.path.insert(0, str(COMFYUI))
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management  # noqa: F401
    import utils.extra_config  # noqa: F401  (as main.py does, before nodes.py hides this package by comfy/utils.py)
