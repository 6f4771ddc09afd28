"""Download weights that open_clip knows by a tag into ComfyUI's own folders, where they are files like any other."""

from pathlib import Path

import comfy.model_management as mm
import comfy.utils

from ...files.download import Download, DownloadError, Problem, get, lacking_space, plan
from ...files.published_files import HUGGING_FACE, MAIN, PublishedFile
from .files import Pretrained
from .towers import open_clip_module

# What a repository of open_clip's may hold, the better one first; and the suffix here.
WEIGHTS = {"open_clip_model.safetensors": ".safetensors", "open_clip_pytorch_model.bin": ".bin"}
# What a user of the node does about it.
ON_THE_NODE = {
    Problem.UNREACHABLE: "Check ComfyUI's network, HTTPS_PROXY behind a proxy, or set HF_ENDPOINT to a mirror.",
    Problem.OFFLINE: "Start ComfyUI without HF_HUB_OFFLINE.",
    Problem.NO_SPACE: "Make room there.",
    Problem.NOT_WRITABLE: "Give ComfyUI the right to write there.",
    Problem.OTHER_IN_PLACE: "Use that file, or move it away and run the workflow again.",
}
AGAIN = "Run the workflow again later."


def file_names(pretrained: Pretrained) -> list[str]:
    """Return the names that the downloaded file may have."""
    return [f"{pretrained.stem}{suffix}" for suffix in WEIGHTS.values()]


def download_pretrained(pretrained: Pretrained, folder: Path) -> Path:
    """Download the weights into `folder` under a progress bar, until interrupted. Raises ValueError with what to do."""
    files, errors = _published(pretrained, folder.name), []
    for file in files:
        try:
            download = plan(file, folder.parent)
            if download is not None:  # None: somebody else has got it meanwhile
                _get(download)
            return folder / file.name
        except DownloadError as error:
            errors.append(error)
            if error.problem is not Problem.MISSING:
                break
    error = min(errors, key=lambda error: error.problem is Problem.MISSING)  # the first one, where all are missing
    raise ValueError(
        f"{pretrained.model} {pretrained.tag} could not be downloaded. {error} {ON_THE_NODE.get(error.problem, AGAIN)} "
        f"To get it in a browser instead: {files[0].url} , saved as {folder / files[0].name}; then choose that file."
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
    url = f"{HUGGING_FACE}/{repository}{MAIN}"
    return [PublishedFile(f"{pretrained.stem}{suffix}", folder, f"{url}{name}") for name, suffix in remotes.items()]


def _get(download: Download) -> None:
    for error in lacking_space([(download.target, download.size)]):
        raise error
    bar = comfy.utils.ProgressBar(download.size)

    def tell(received: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(received)

    get(download, tell)
