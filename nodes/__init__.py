"""The pack's nodes, which the user sees: thin V3 nodes over `models`, a folder for each group of them."""

import logging

from comfy_api.latest import ComfyExtension, io

from .control import layer_weights, schedule, task
from .explore import grid, heat_map, label_grid, watch
from .faces import load_face, read_face
from .main import apply, combine, encode, load, reference
from .prepare import load_embeds, prepare_reference, save_embeds, tile
from .shared.folders import unreadable
from .shared.routes import add_routes
from .tools import open_clip, train

log = logging.getLogger(__name__)

NODES: list[type[io.ComfyNode]] = [
    # main: the way from a reference to a model
    load.IPAdapterInstructLoader,
    encode.IPAdapterInstructEncode,
    apply.IPAdapterInstructApply,
    reference.IPAdapterInstructReference,
    combine.IPAdapterInstructCombine,
    # control: when, where and by what settings
    schedule.IPAdapterInstructSchedule,
    layer_weights.IPAdapterInstructLayers,
    task.IPAdapterInstructTask,
    # prepare: before a reference is encoded, and files of embeds
    prepare_reference.IPAdapterInstructPrepare,
    tile.IPAdapterInstructTile,
    save_embeds.IPAdapterInstructSaveEmbeds,
    load_embeds.IPAdapterInstructLoadEmbeds,
    # faces: for FaceID adapters
    read_face.IPAdapterInstructReadFace,
    load_face.IPAdapterInstructLoadFace,
    # explore: comparing, and looking
    grid.IPAdapterInstructGrid,
    label_grid.IPAdapterInstructLabelGrid,
    watch.IPAdapterInstructWatch,
    heat_map.IPAdapterInstructHeatMap,
    # tools: encoders of another library, and training
    open_clip.IPAdapterInstructOpenClip,
    train.IPAdapterInstructTrain,
]


class IPAdapterInstructExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_routes()
        if found := unreadable("ipadapter"):
            log.warning("IPAdapter-Instruct: %s", found)
        return NODES
