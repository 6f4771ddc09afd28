"""Load IPAdapter-Instruct."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..models.encoder_files import encoder_title, encoder_width, find_encoder, wrong_encoder
from ..models.patching.embeds import AdapterWithEncoder
from ..models.patching.image_encoder import EncoderFile
from ..models.patching.loaded_adapter import LoadedAdapter
from .folders import adapter_path
from .schema import schema
from .sockets import CATEGORY, Adapter

log = logging.getLogger(__name__)

AUTO = "auto"


class IPAdapterInstructLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructLoader",
                display_name="Load IPAdapter-Instruct",
                category=CATEGORY,
                description="Loads an IPAdapter-Instruct file and the image encoder it needs.",
                inputs=[
                    io.Combo.Input(
                        "adapter_name",
                        options=folder_paths.get_filename_list("ipadapter"),
                        tooltip="A file in models/ipadapter. What it is for is read off its tensors, not its name.",
                    ),
                    io.Combo.Input(
                        "image_encoder",
                        options=[AUTO, *folder_paths.get_filename_list("clip_vision")],
                        default=AUTO,
                        tooltip="A file in models/clip_vision. auto takes the one that fits the adapter.",
                    ),
                ],
                outputs=[
                    Adapter.Output(display_name="adapter", tooltip="Connect it to Encode Instruct Prompt."),
                ],
            ),
            search_aliases=["ip adapter instruct", "ipadapter loader", "reference image", "instruct"],
        )

    @classmethod
    def execute(cls, adapter_name: str, image_encoder: str) -> io.NodeOutput:
        adapter = LoadedAdapter.read(adapter_path(adapter_name))
        encoder = _encoder_file(image_encoder, adapter.sizes.image_width)
        found = encoder.name if encoder else "none found"
        log.info("IPAdapter-Instruct: %s is for %s; image encoder: %s", adapter_name, adapter.family.title, found)
        return io.NodeOutput(AdapterWithEncoder(adapter, encoder))


def _encoder_file(choice: str, needed_width: int) -> EncoderFile | None:
    """The chosen file, or what `auto` finds: None when no file fits (Encode may be given an encoder).

    Raises ValueError for a chosen file whose header says that it does not fit.
    """
    if choice == AUTO:
        names = folder_paths.get_filename_list("clip_vision")
        paths = {name: Path(folder_paths.get_full_path_or_raise("clip_vision", name)) for name in names}
        found = find_encoder(paths.items(), needed_width)
        return None if found is None else EncoderFile(found, paths[found])
    path = Path(folder_paths.get_full_path_or_raise("clip_vision", choice))
    width = encoder_width(path)
    if width not in (None, needed_width):
        raise ValueError(wrong_encoder(f"{choice} is {encoder_title(width)}", needed_width))
    return EncoderFile(choice, path)
