"""The Load open_clip for Instruct node."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker

from ...models.encoding.open_clip.files import IMAGE_WEIGHTS, TEXT_WEIGHTS, Pretrained
from ..shared.folders import encoder_path, stamps_of
from ..shared.schema import CATEGORY, InstructClip, Schema
from ..shared.status_text import output_with_text

IMAGE_FOLDER, TEXT_FOLDER = "clip_vision", "text_encoders"
NONE = "none"


class IPAdapterInstructOpenClip(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructOpenClip",
            category=f"{CATEGORY}/tools",
            inputs=[
                io.Combo.Input("image_encoder", options=_choices(IMAGE_FOLDER, IMAGE_WEIGHTS), default=NONE),
                io.Combo.Input("text_encoder", options=_choices(TEXT_FOLDER, TEXT_WEIGHTS), default=NONE),
            ],
            outputs=[
                io.ClipVision.Output(display_name="clip_vision"),
                InstructClip.Output(display_name="instruct_clip"),
            ],
            search_aliases=["open_clip", "clip vision loader", "ViT-H", "ViT-bigG", "clip_l", "text encoder loader"],
        )

    @classmethod
    def validate_inputs(cls, image_encoder=None, text_encoder=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, image_encoder=None, text_encoder=None):
        """Return the files' stamps: another file under the same name is another input."""
        return stamps_of(IMAGE_FOLDER, image_encoder) + stamps_of(TEXT_FOLDER, text_encoder)

    @classmethod
    def execute(cls, image_encoder: str, text_encoder: str) -> io.NodeOutput:
        from ...models.encoding.open_clip.towers import load_image_tower, load_text_tower

        asked = {
            "image_encoder": (image_encoder, IMAGE_FOLDER, IMAGE_WEIGHTS, load_image_tower),
            "text_encoder": (text_encoder, TEXT_FOLDER, TEXT_WEIGHTS, load_text_tower),
        }
        if image_encoder == text_encoder == NONE:
            raise ValueError("Choose an image_encoder, a text_encoder, or both; both are none.")
        outputs, lines = [], []
        for name, (choice, folder, weights, load) in asked.items():
            if choice == NONE:
                outputs.append(ExecutionBlocker(f"Choose {name} in Load open_clip for Instruct; it is none."))
                continue
            path = _path(choice, folder, weights)
            loaded = load(path)
            outputs.append(loaded)
            lines += [path.name, loaded.title]
        return output_with_text(cls, lines, *outputs)


def _choices(folder: str, weights: tuple[Pretrained, ...]) -> list[str]:
    return [NONE, *folder_paths.get_filename_list(folder), *(one.choice for one in weights)]


def _path(choice: str, folder: str, weights: tuple[Pretrained, ...]) -> Path:
    """Return the chosen file. A download, which holds both encoders, is looked for in both folders, or fetched."""
    from ...models.encoding.open_clip.pretrained import download_pretrained, file_names

    pretrained = next((one for one in weights if one.choice == choice), None)
    if pretrained is None:
        return encoder_path(folder, choice)
    for place in ((kind, name) for kind in (IMAGE_FOLDER, TEXT_FOLDER) for name in file_names(pretrained)):
        if found := folder_paths.get_full_path(*place):
            return Path(found)
    return download_pretrained(pretrained, Path(folder_paths.get_folder_paths(folder)[0]))
