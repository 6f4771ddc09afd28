"""The places of the repository, the cache folder, and the ComfyUI in use. Standard library only."""

from __future__ import annotations

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


def host() -> Host:
    """The ComfyUI in use: COMFYUI_PATH if it is set, else the one in the cache folder."""
    users = os.environ.get("COMFYUI_PATH")
    return users_host(Path(users).expanduser().resolve()) if users else cached_host()


def cached_host() -> Host:
    """The ComfyUI that `install` unpacks, whether or not it is there yet."""
    cache = cache_folder()
    return Host(cache / f"comfyui-{COMFYUI_VERSION}", venv_python(venv_folder()), cache / "models", users_own=False)


def users_host(comfyui: Path) -> Host:
    """The ComfyUI in a user's folder.

    Raises ToolError when the folder holds no ComfyUI, or COMFYUI_PYTHON no python.
    """
    if not (comfyui / "main.py").is_file() or not (comfyui / "comfy").is_dir():
        raise ToolError(
            f"COMFYUI_PATH should name a ComfyUI folder, but {comfyui} holds no main.py and comfy/. "
            "Set it to the folder with main.py, or unset it to use the ComfyUI that `make setup` installs."
        )
    return Host(comfyui, users_python(comfyui), comfyui / "models", users_own=True)


def users_python(comfyui: Path) -> Path:
    """Return COMFYUI_PYTHON, else the virtual environment inside the user's ComfyUI, else the current python."""
    named = os.environ.get("COMFYUI_PYTHON")
    if not named:
        own = (venv_python(comfyui / name) for name in ("venv", ".venv"))
        return next((python for python in own if python.is_file()), Path(sys.executable))
    python = Path(named).expanduser().absolute()
    if not python.is_file():
        raise ToolError(
            f"COMFYUI_PYTHON should name the python that runs ComfyUI, but there is no file {python}. "
            "Set it to the full path of that python."
        )
    return python


def venv_python(venv: Path) -> Path:
    """The python inside a virtual environment."""
    return venv / "bin" / "python"
