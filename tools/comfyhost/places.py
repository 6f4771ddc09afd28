"""The places of the repository, the cache folder, and the ComfyUI in use. Standard library only."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
TOOLS = REPO_ROOT / "tools"
PACK_FOLDER = "ipadapter-instruct"
COMFYUI_VERSION = "0.3.75"
# Another torch to try the pack on, in an environment of its own beside the ordinary one.
TRIED_TORCH = "IPADAPTER_INSTRUCT_TORCH"


class ToolError(Exception):
    """A failure whose message already says what happened and what to do."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI: its source folder, the python that runs it, its models folder.

    `users_own`: given by COMFYUI_PATH, so nothing is installed into it and nothing is written to its models.
    """

    comfyui: Path
    python: Path
    models: Path
    users_own: bool


def cache_folder() -> Path:
    """Return the folder, outside the clone, in which ComfyUI, its python and the stand-in models are kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = os.environ.get("IPADAPTER_INSTRUCT_CACHE") or base / "comfyui-ipadapter-instruct"
    return Path(own).expanduser().resolve()


def tried_torch() -> str:
    """Return the version of torch to try instead of the pinned one; empty for the pinned one."""
    return os.environ.get(TRIED_TORCH) or ""


def venv_folder() -> Path:
    """The virtual environment for the python that runs this, and for the torch it is to hold."""
    other = f"-torch-{tried_torch()}" if tried_torch() else ""
    return cache_folder() / f"venv-{sys.version_info.major}.{sys.version_info.minor}{other}"


def cached_host() -> Host:
    """The ComfyUI that `install` unpacks, whether or not it is there yet."""
    cache = cache_folder()
    return Host(cache / f"comfyui-{COMFYUI_VERSION}", venv_folder() / "bin/python", cache / "models", users_own=False)


def host() -> Host:
    """The ComfyUI in use: the one that COMFYUI_PATH names if it is set, else the one in the cache folder.

    A user's own runs on COMFYUI_PYTHON, else the virtual environment inside it, else the current python.
    Raises ToolError when the folder holds no ComfyUI, or COMFYUI_PYTHON names no python.
    """
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return cached_host()
    comfyui = Path(named).expanduser().resolve()
    if not (comfyui / "main.py").is_file() or not (comfyui / "comfy").is_dir():
        raise ToolError(
            f"COMFYUI_PATH should name a ComfyUI folder, but {comfyui} holds no main.py and comfy/. "
            "Set it to the folder with main.py, or unset it to use the ComfyUI that `make setup` installs."
        )
    own = [comfyui / "venv/bin/python", comfyui / ".venv/bin/python"]
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        own = [Path(named).expanduser().absolute()]
    python = next((path for path in own if path.is_file()), None)
    if named and not python:
        raise ToolError(
            f"COMFYUI_PYTHON should name the python that runs ComfyUI, but there is no file {own[0]}. "
            "Set it to the full path of that python."
        )
    return Host(comfyui, python or Path(sys.executable), comfyui / "models", users_own=True)
