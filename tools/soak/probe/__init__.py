"""A custom node pack beside the soaked one, without nodes: a look into the process."""

import ctypes
import gc
import sys

import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, type] = {}


@PromptServer.instance.routes.get("/soak/settle")
async def settle(request: web.Request) -> web.Response:
    """Collect garbage, give freed memory back to the system, and say what is still alive."""
    for _ in range(3):
        gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    found = gc.get_objects()
    tensors = [one for one in found if issubclass(type(one), torch.Tensor) and one.layout == torch.strided]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    models = sum(type(one).__name__ == "ModelPatcher" for one in found)
    return web.json_response({"models": models, "tensors": len(tensors), "MB of them": sum(storages.values()) // 10**6})
