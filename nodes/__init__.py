"""The pack's nodes, which the user sees: thin V3 nodes over `models`, a folder for each group of them."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .control.layer_weights import IPAdapterInstructLayers
from .control.schedule import IPAdapterInstructSchedule
from .control.task import IPAdapterInstructTask
from .explore.grid import IPAdapterInstructGrid
from .explore.heat_map import IPAdapterInstructHeatMap
from .explore.label_grid import IPAdapterInstructLabelGrid
from .explore.watch import IPAdapterInstructWatch
from .faces.load_face import IPAdapterInstructLoadFace
from .faces.read_face import IPAdapterInstructReadFace
from .main.apply import IPAdapterInstructApply
from .main.combine import IPAdapterInstructCombine
from .main.encode import IPAdapterInstructEncode
from .main.load import IPAdapterInstructLoader
from .main.reference import IPAdapterInstructReference
from .prepare.load_embeds import IPAdapterInstructLoadEmbeds
from .prepare.prepare_reference import IPAdapterInstructPrepare
from .prepare.save_embeds import IPAdapterInstructSaveEmbeds
from .prepare.tile import IPAdapterInstructTile
from .shared.folders import unreadable
from .shared.routes import add_routes
from .tools.open_clip import IPAdapterInstructOpenClip
from .tools.train import IPAdapterInstructTrain

log = logging.getLogger(__name__)

NODES: list[type[io.ComfyNode]] = [
    # main: the way from a reference to a model
    IPAdapterInstructLoader,
    IPAdapterInstructEncode,
    IPAdapterInstructApply,
    IPAdapterInstructReference,
    IPAdapterInstructCombine,
    # control: when, where and by what settings
    IPAdapterInstructSchedule,
    IPAdapterInstructLayers,
    IPAdapterInstructTask,
    # prepare: before a reference is encoded, and files of embeds
    IPAdapterInstructPrepare,
    IPAdapterInstructTile,
    IPAdapterInstructSaveEmbeds,
    IPAdapterInstructLoadEmbeds,
    # faces: for FaceID adapters
    IPAdapterInstructReadFace,
    IPAdapterInstructLoadFace,
    # explore: comparing, and looking
    IPAdapterInstructGrid,
    IPAdapterInstructLabelGrid,
    IPAdapterInstructWatch,
    IPAdapterInstructHeatMap,
    # tools: encoders of another library, and training
    IPAdapterInstructOpenClip,
    IPAdapterInstructTrain,
]


class IPAdapterInstructExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_routes()
        if found := unreadable("ipadapter"):
            log.warning("IPAdapter-Instruct: %s", found)
        return NODES
