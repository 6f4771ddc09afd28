"""IPAdapter-Instruct for ComfyUI: say in words what to take from a picture."""

from __future__ import annotations

import os

import folder_paths

WEB_DIRECTORY = "./js"
MODEL_FOLDER = "ipadapter"
OLDEST_COMFYUI = "0.3.75"  # as in pyproject.toml


def _check_comfyui() -> None:
    """The pack's nodes are written for the node API that came with this version."""
    try:
        import comfy_api.latest  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("comfy_api", "comfy_api.latest"):
            raise
    else:
        return
    try:
        from comfyui_version import __version__ as found
    except ImportError:
        found = "of an unknown version"
    raise ImportError(
        f"IPAdapter-Instruct needs ComfyUI {OLDEST_COMFYUI} or later, this is ComfyUI {found}, which has no "
        "comfy_api.latest. Update ComfyUI; nothing of the pack is loaded until then."
    )


def _register_model_folder() -> None:
    """Make models/ipadapter known beside whatever other packs or extra_model_paths made of the key.

    And output/ipadapter, where what was trained is saved, as the host does it with output/loras.
    """
    folders, extensions = folder_paths.folder_names_and_paths.get(MODEL_FOLDER, ([], set()))
    for place in (folder_paths.models_dir, folder_paths.get_output_directory()):
        own = os.path.join(place, MODEL_FOLDER)
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
