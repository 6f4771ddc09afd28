"""The real ComfyUI and the pack in this process, on the processor, or on the device that DRAWN_WORLD_DEVICE names.

from drawn_world.in_process import comfy
from ipadapter_instruct.models import ...  # after it
"""

from __future__ import annotations

import os

from comfyhost.in_process import import_comfyui, register

DEVICE_VARIABLE = "DRAWN_WORLD_DEVICE"
DEVICE = os.environ.get(DEVICE_VARIABLE) or "cpu"
import_comfyui(("main.py", "--cpu") if DEVICE == "cpu" else ("main.py",))
register()

import comfy.clip_vision  # noqa: E402
import comfy.latent_formats  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_detection  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.taesd.taesd  # noqa: E402

__all__ = ["DEVICE", "DEVICE_VARIABLE", "comfy"]
