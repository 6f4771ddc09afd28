"""Load Instruct Embeds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..models.patching.embeds import InstructEmbeds
from ..models.stored_embeds import SUFFIX, check_adapter, read_embeds
from .feedback import output_with_text
from .schema import schema
from .sockets import CATEGORY, Adapter, Embeds

SAVED = "embeds"
IN_OUTPUT = " [output]"


class IPAdapterInstructLoadEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructLoadEmbeds",
                display_name="Load Instruct Embeds",
                category=f"{CATEGORY}/tools",
                description="Loads embeds that Save Instruct Embeds has saved. They need no picture and no encoder.",
                inputs=[
                    Adapter.Input("adapter", tooltip="The adapter that the embeds were made with, in any precision."),
                    io.Combo.Input(
                        "file",
                        options=embeds_files(),
                        tooltip=(
                            f"A file *{SUFFIX} in the input folder, or in output/{SAVED}, where Save Instruct Embeds "
                            "puts it."
                        ),
                    ),
                ],
                outputs=[
                    Embeds.Output(display_name="embeds", tooltip="Connect it to Apply IPAdapter-Instruct."),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["instruct load", "ip adapter embeds", "load embeds", "import embeds"],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        """What the host asks before anything runs: True, or what is wrong. None stands for a link."""
        try:
            if file is not None:
                embeds_path(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter=None, file=None):
        """Another file under the same name is another input. Links are None here."""
        return hashlib.sha256(embeds_path(file).read_bytes()).hexdigest()

    @classmethod
    def execute(cls, adapter, file: str) -> io.NodeOutput:
        path = embeds_path(file)
        stored = read_embeds(path)
        check_adapter(path.name, stored, adapter.adapter)
        embeds = InstructEmbeds(adapter.adapter, stored.instruction, stored.image_tokens, stored.token_weights)
        return output_with_text(cls, [f"instruction: {stored.instruction}"], embeds)


def embeds_files() -> list[str]:
    """What there is to choose: files anywhere in the input folder, then those in output/embeds, marked as core does."""
    source, saved = Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())
    names = [path.relative_to(source).as_posix() for path in _below(source)]
    return sorted(names) + sorted(path.relative_to(saved).as_posix() + IN_OUTPUT for path in _below(saved / SAVED))


def embeds_path(name: str) -> Path:
    """The file of this name in the input folder, or in the output folder where the name ends in [output].

    Raises ValueError for another kind of file, a place outside of these folders, and a file that is not there.
    """
    plain, folder = folder_paths.annotated_filepath(name or "")
    folder = folder or folder_paths.get_input_directory()
    path = Path(os.path.abspath(os.path.join(folder, plain.strip())))
    inside = path.is_relative_to(os.path.abspath(folder)) and path.name.endswith(SUFFIX)
    if inside and path.is_file():
        return path
    raise ValueError(
        f"file was expected to be embeds, *{SUFFIX}, in {folder}; {name!r} is not. Save some with Save Instruct "
        "Embeds, refresh the page (R) and choose them here."
    )


def _below(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names if name.endswith(SUFFIX)]
