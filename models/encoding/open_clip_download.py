"""Download weights that open_clip knows by a tag into ComfyUI's own folders, where they are files like any other."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.model_management as mm
import comfy.utils

from ..files.download import Download, get, lacking_space, plan
from ..files.published_files import HUGGING_FACE, PublishedFile
from ..files.web import DownloadError, PassingError
from .open_clip_files import Pretrained
from .open_clip_towers import open_clip_module

# What a repository of open_clip's may hold, the better one first; and the suffix here.
WEIGHTS = {"open_clip_model.safetensors": ".safetensors", "open_clip_pytorch_model.bin": ".bin"}
# The download's messages are those of a command.
AS_A_NODE = {
    "un the same command": "un the workflow",
    ", or name another models folder with --models": "",
}


def file_names(pretrained: Pretrained) -> list[str]:
    """Return the names that the downloaded file may have."""
    return [f"{pretrained.stem}{suffix}" for suffix in WEIGHTS.values()]


def download_pretrained(pretrained: Pretrained, folder: Path) -> Path:
    """Download the weights into `folder` under a progress bar. HF_ENDPOINT names a mirror of Hugging Face.

    What was received stays for the next time where it breaks off, or the user interrupts it.
    Raises ValueError with what to do where it fails.
    """
    files = _published(pretrained, folder.name)
    try:
        return _get_first(files, folder)
    except DownloadError as error:
        message = str(error)
        for command, node in AS_A_NODE.items():
            message = message.replace(command, node)
        raise ValueError(
            f"{pretrained.model} {pretrained.tag} could not be downloaded. {message} To get it in a browser instead: "
            f"{files[0].url} , saved as {folder / files[0].name}; then choose that file."
        ) from error


def _published(pretrained: Pretrained, folder: str) -> list[PublishedFile]:
    """Return the files to try; open_clip's registry says "owner/repository/file", or "owner/repository/"."""
    hub = open_clip_module().get_pretrained_cfg(pretrained.model, pretrained.tag).get("hf_hub", "")
    repository, _, named = hub.rpartition("/")
    if not repository:
        raise ValueError(
            f"open_clip was expected to know {pretrained.model} {pretrained.tag}; the installed version does not. "
            "Update open_clip_torch, or choose a file."
        )
    remotes = {named: Path(named).suffix} if named else WEIGHTS
    url = f"{HUGGING_FACE}/{repository}/resolve/main"
    return [PublishedFile(f"{pretrained.stem}{suffix}", folder, f"{url}/{name}") for name, suffix in remotes.items()]


def _get_first(files: list[PublishedFile], folder: Path) -> Path:
    """Get the first of the files that the server has. Raises the first one's DownloadError when it has none."""
    refused: list[DownloadError] = []
    for file in files:
        try:
            planned = plan(file, file.url_at(os.environ.get("HF_ENDPOINT", "")), folder.parent)
            break
        except PassingError:
            raise
        except DownloadError as error:
            refused.append(error)
    else:
        raise refused[0]
    if planned is not None:  # None: somebody else has got it meanwhile
        _get(planned)
    return folder / file.name


def _get(download: Download) -> None:
    for message in lacking_space([download]):
        raise DownloadError(message)
    bar = comfy.utils.ProgressBar(download.remote.size)

    def tell(received: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(received)

    get(download, tell)
