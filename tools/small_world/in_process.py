"""The real ComfyUI and the pack in this process, as its server has them with --cpu.

from small_world.in_process import comfy
from ipadapter_instruct.models import ...  # after it
"""

from __future__ import annotations

from comfyhost.in_process import import_comfyui, register

import_comfyui()
register()

import comfy.clip_vision  # noqa: E402
import comfy.latent_formats  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.sd1_clip  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.taesd.taesd  # noqa: E402

__all__ = ["comfy"]
