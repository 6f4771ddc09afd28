"""A custom node pack beside the soaked one: what other packs' nodes would give it, and a look into the process."""

from __future__ import annotations

import collections
import ctypes
import gc
import sys

import torch
from aiohttp import web
from server import PromptServer

COUNTED = ("ModelPatcher", "ClipVisionModel", "OpenClipVision", "LoadedAdapter", "InstructEmbeds", "Applied",
           "Watch", "CLIP", "VAE", "FaceAnalysis")  # fmt: skip


class SoakPlusEmbeds:
    """A picture's states as IPAdapter Plus's encoder hands them over."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("EMBEDS",), "states", "soak"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, the host's name
        return {"required": {"clip_vision_output": ("CLIP_VISION_OUTPUT",), "blank": ("BOOLEAN", {"default": False})}}

    def states(self, clip_vision_output, blank: bool):
        states = clip_vision_output.penultimate_hidden_states
        return (torch.zeros_like(states[:1]) if blank else states,)


class Fading:
    """A curve, as newer versions of ComfyUI have them."""

    def interp(self, position: float) -> float:
        return 1.0 - 0.8 * position


class SoakCurve:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CURVE",), "curve", "soak"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {}}

    def curve(self):
        return (Fading(),)


NODE_CLASS_MAPPINGS = {"SoakPlusEmbeds": SoakPlusEmbeds, "SoakCurve": SoakCurve}


@PromptServer.instance.routes.get("/soak/settle")
async def settle(request: web.Request) -> web.Response:
    """Collect garbage, give freed memory back to the system, and say what is still alive."""
    for _ in range(3):
        gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return web.json_response(_alive())


def _alive() -> dict:
    counts, tensors, size = collections.Counter(), 0, {}
    for one in gc.get_objects():
        kind = type(one)
        if issubclass(kind, torch.Tensor):
            tensors += 1
            if one.device.type == "cpu" and one.layout == torch.strided:
                storage = one.untyped_storage()
                size[storage.data_ptr()] = storage.nbytes()
        elif kind.__name__ in COUNTED:
            counts[kind.__name__] += 1
    return {"tensors": tensors, "tensor_megabytes": round(sum(size.values()) / 1e6, 1), **counts}
