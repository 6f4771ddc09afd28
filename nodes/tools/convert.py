"""The Convert IPAdapter-Instruct node."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...models.messages import PRECISIONS
from ..shared.folders import adapter_path, listed_name, stamps_of
from ..shared.schema import schema
from ..shared.sockets import CATEGORY
from ..shared.status_text import output_with_text


class IPAdapterInstructConvert(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructConvert",
                display_name="Convert IPAdapter-Instruct",
                category=f"{CATEGORY}/tools",
                description="Writes an IPAdapter-Instruct file anew as .safetensors in half precision, half the size.",
                inputs=[
                    io.Combo.Input(
                        "adapter_name",
                        options=folder_paths.get_filename_list("ipadapter"),
                        tooltip="A file in models/ipadapter. It stays as it is; the new one comes beside it.",
                    ),
                    io.Combo.Input(
                        "precision",
                        options=list(PRECISIONS),
                        default="fp16",
                        tooltip="fp16 is the more exact one; bf16 is for files whose numbers are too large for fp16.",
                    ),
                    io.Boolean.Input(
                        "overwrite", default=False, tooltip="Replace a file that an earlier conversion has written."
                    ),
                ],
                outputs=[io.String.Output(display_name="file_name", tooltip="The new file, as the loader lists it.")],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            ),
            search_aliases=["ip adapter convert", "instruct fp16", "safetensors"],
        )

    @classmethod
    def validate_inputs(cls, adapter_name=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter_name=None, **_):
        """Return the file's stamps: another file under the same name is another input."""
        return stamps_of("ipadapter", adapter_name)

    @classmethod
    def execute(cls, adapter_name: str, precision: str, overwrite: bool) -> io.NodeOutput:
        from ...models.adapter.convert import convert, default_name

        source = adapter_path(adapter_name)
        name = default_name(source, precision)
        written = convert(source, _folder_for(source) / name, precision, overwrite)
        lines = [str(written), "Refresh the page (R) to choose it."]
        return output_with_text(cls, lines, listed_name("ipadapter", written.target))


def _folder_for(source: Path) -> Path:
    """Return the source's own folder, or models/ipadapter where that one is read only."""
    if os.access(source.parent, os.W_OK):
        return source.parent
    own = Path(folder_paths.models_dir) / "ipadapter"
    own.mkdir(parents=True, exist_ok=True)
    return own
