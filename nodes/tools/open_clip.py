"""The Load Image Encoder (open_clip) and Load Instruct Text Encoder (open_clip) nodes."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...models.encoding.open_clip_files import IMAGE_WEIGHTS, TEXT_WEIGHTS, Pretrained
from ..shared.folders import encoder_path, stamps_of
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, InstructClip
from ..shared.status_text import output_with_text

IMAGE_FOLDER, TEXT_FOLDER = "clip_vision", "text_encoders"


class IPAdapterInstructImageEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructImageEncoder",
                display_name="Load Image Encoder (open_clip)",
                category=f"{CATEGORY}/tools",
                description="Loads CLIP's ViT-H-14, ViT-bigG-14 or ViT-L-14 image encoder as open_clip computes it.",
                inputs=[
                    io.Combo.Input(
                        "encoder",
                        options=_choices(IMAGE_FOLDER, IMAGE_WEIGHTS),
                        tooltip="A file in models/clip_vision, in open_clip's or transformers' layout. What it is is "
                        "read off its tensors. The entries marked (download) are fetched once, into that folder.",
                    ),
                ],
                outputs=[
                    io.ClipVision.Output(
                        display_name="clip_vision", tooltip="For every input that takes a CLIP_VISION."
                    ),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["open_clip", "clip vision loader", "ViT-H", "ViT-bigG", "image encoder"],
        )

    @classmethod
    def validate_inputs(cls, encoder=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, encoder=None):
        """Return the file's stamps: another file under the same name is another input."""
        return stamps_of(IMAGE_FOLDER, encoder)

    @classmethod
    def execute(cls, encoder: str) -> io.NodeOutput:
        from ...models.encoding.open_clip_towers import load_image_tower

        path = _path(encoder, IMAGE_FOLDER, IMAGE_WEIGHTS)
        loaded = load_image_tower(path)
        return output_with_text(cls, [path.name, loaded.title], loaded)


class IPAdapterInstructTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructTextEncoder",
                display_name="Load Instruct Text Encoder (open_clip)",
                category=f"{CATEGORY}/tools",
                description="Loads OpenAI's ViT-L-14 text encoder, which IPAdapter-Instruct was trained to read "
                "instructions with, for a graph that has none (SD3 without CLIP-L) or a fine-tuned one.",
                inputs=[
                    io.Combo.Input(
                        "encoder",
                        options=_choices(TEXT_FOLDER, TEXT_WEIGHTS),
                        tooltip="A file in models/text_encoders or models/clip with CLIP-L's text encoder, such as "
                        "clip_l.safetensors, in open_clip's or transformers' layout. The entry marked (download) is "
                        "fetched once, into models/text_encoders.",
                    ),
                ],
                outputs=[
                    InstructClip.Output(
                        display_name="instruct_clip", tooltip="Connect it to the instruct_clip of an Encode node."
                    ),
                ],
                hidden=[io.Hidden.unique_id],
            ),
            search_aliases=["open_clip", "clip_l", "instruct clip", "text encoder loader", "ViT-L"],
        )

    @classmethod
    def validate_inputs(cls, encoder=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, encoder=None):
        """Return the file's stamps: another file under the same name is another input."""
        return stamps_of(TEXT_FOLDER, encoder)

    @classmethod
    def execute(cls, encoder: str) -> io.NodeOutput:
        from ...models.encoding.open_clip_towers import load_text_tower

        path = _path(encoder, TEXT_FOLDER, TEXT_WEIGHTS)
        loaded = load_text_tower(path)
        return output_with_text(cls, [path.name, loaded.title], loaded)


def _choices(folder: str, weights: tuple[Pretrained, ...]) -> list[str]:
    return [*folder_paths.get_filename_list(folder), *(one.choice for one in weights)]


def _path(choice: str, folder: str, weights: tuple[Pretrained, ...]) -> Path:
    """Return the chosen file; of a download, the one that was fetched before, or is fetched now."""
    pretrained = next((one for one in weights if one.choice == choice), None)
    if pretrained is None:
        return encoder_path(folder, choice)
    from ...models.encoding.open_clip_download import download_pretrained

    return _fetched(pretrained) or download_pretrained(pretrained, Path(folder_paths.get_folder_paths(folder)[0]))


def _fetched(pretrained: Pretrained) -> Path | None:
    """Return the download's file from either folder, since it holds both encoders."""
    from ...models.encoding.open_clip_download import file_names

    places = ((folder, name) for folder in (IMAGE_FOLDER, TEXT_FOLDER) for name in file_names(pretrained))
    found = (folder_paths.get_full_path(*place) for place in places)
    return next((Path(path) for path in found if path is not None), None)
