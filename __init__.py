"""IPAdapter-Instruct for ComfyUI: say in words what to take from a picture."""

from __future__ import annotations

import os

import folder_paths

WEB_DIRECTORY = "./js"
MODEL_FOLDER = "ipadapter"


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


_register_model_folder()


async def comfy_entrypoint():
    from .nodes import IPAdapterInstructExtension

    return IPAdapterInstructExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
