"""What the user sees: thin V3 nodes over `models.patching`."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .add_reference import IPAdapterInstructEncodeReferences, IPAdapterInstructReference
from .apply_adapter import IPAdapterInstructApply
from .combine_embeds import IPAdapterInstructCombine
from .convert_adapter import IPAdapterInstructConvert
from .crop_around import IPAdapterInstructCropAround
from .cut_out import IPAdapterInstructCutOut
from .encode_instruct import IPAdapterInstructEncode
from .encode_stored import IPAdapterInstructEncodeStored
from .face_analysis import IPAdapterInstructFaceAnalysis
from .face_files import IPAdapterInstructLoadFace, IPAdapterInstructSaveFace
from .folders import unreadable
from .grid import IPAdapterInstructGrid
from .guider import IPAdapterInstructGuider
from .heat_map import IPAdapterInstructHeatMap
from .label_grid import IPAdapterInstructLabelGrid
from .layer_weights import IPAdapterInstructLayers
from .load_adapter import IPAdapterInstructLoader
from .load_embeds import IPAdapterInstructLoadEmbeds
from .load_open_clip import IPAdapterInstructImageEncoder, IPAdapterInstructTextEncoder
from .read_face import IPAdapterInstructReadFace
from .routes import add_routes
from .save_embeds import IPAdapterInstructSaveEmbeds
from .schedule_weight import IPAdapterInstructSchedule
from .take_turns import IPAdapterInstructThen
from .task import IPAdapterInstructTask
from .tile import IPAdapterInstructTile
from .train_adapter import IPAdapterInstructTrain
from .watch_attention import IPAdapterInstructWatch

log = logging.getLogger(__name__)

NODES: list[type[io.ComfyNode]] = [
    IPAdapterInstructLoader,
    IPAdapterInstructEncode,
    IPAdapterInstructApply,
    IPAdapterInstructReference,
    IPAdapterInstructEncodeReferences,
    IPAdapterInstructCombine,
    IPAdapterInstructCutOut,
    IPAdapterInstructCropAround,
    IPAdapterInstructTile,
    IPAdapterInstructSaveEmbeds,
    IPAdapterInstructLoadEmbeds,
    IPAdapterInstructEncodeStored,
    IPAdapterInstructSchedule,
    IPAdapterInstructThen,
    IPAdapterInstructLayers,
    IPAdapterInstructGuider,
    IPAdapterInstructTask,
    IPAdapterInstructGrid,
    IPAdapterInstructLabelGrid,
    IPAdapterInstructWatch,
    IPAdapterInstructHeatMap,
    IPAdapterInstructConvert,
    IPAdapterInstructTrain,
    IPAdapterInstructImageEncoder,
    IPAdapterInstructTextEncoder,
    IPAdapterInstructFaceAnalysis,
    IPAdapterInstructReadFace,
    IPAdapterInstructSaveFace,
    IPAdapterInstructLoadFace,
]


class IPAdapterInstructExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_routes()
        if found := unreadable("ipadapter"):
            log.warning("IPAdapter-Instruct: %s", found)
        return NODES
