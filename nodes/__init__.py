"""What the user sees: thin V3 nodes over `models.patching`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_adapter import IPAdapterInstructApply
from .convert_adapter import IPAdapterInstructConvert
from .encode_instruct import IPAdapterInstructEncode
from .load_adapter import IPAdapterInstructLoader
from .routes import add_routes

NODES: list[type[io.ComfyNode]] = [
    IPAdapterInstructLoader,
    IPAdapterInstructEncode,
    IPAdapterInstructApply,
    IPAdapterInstructConvert,
]


class IPAdapterInstructExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_routes()
        return NODES
