"""IPAdapter-Instruct for ComfyUI: say in words what to take from a picture."""

from __future__ import annotations

import inspect
import os

import folder_paths
from comfy.ldm.modules import attention

WEB_DIRECTORY = "./js"
MODEL_FOLDER = "ipadapter"
OLDEST_COMFYUI = "0.3.64"  # as in pyproject.toml


def _check_comfyui() -> None:
    """Image tokens enter SD3's attention by an override that older attention functions do not take."""
    parameters = inspect.signature(attention.optimized_attention).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    try:
        from comfyui_version import __version__ as found
    except ImportError:
        found = "of an unknown version"
    raise ImportError(
        f"IPAdapter-Instruct needs ComfyUI {OLDEST_COMFYUI} or later, this is ComfyUI {found}, whose attention "
        "functions take no transformer_options. Update ComfyUI; nothing of the pack is loaded until then."
    )


def _register_model_folder() -> None:
    """Make models/ipadapter known beside whatever other packs or extra_model_paths made of the key."""
    own = os.path.join(folder_paths.models_dir, MODEL_FOLDER)
    folders, extensions = folder_paths.folder_names_and_paths.get(MODEL_FOLDER, ([], set()))
    if own not in folders:
        folders.append(own)
    folder_paths.folder_names_and_paths[MODEL_FOLDER] = (
        folders,
        set(extensions) | folder_paths.supported_pt_extensions,
    )


_check_comfyui()
_register_model_folder()


async def comfy_entrypoint():
    from .nodes import IPAdapterInstructExtension

    return IPAdapterInstructExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
