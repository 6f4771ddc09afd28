"""ComfyUI's page in versions: the one installed beside ComfyUI, and a newer one kept in the cache folder.

PYTHONPATH=tools python -m comfyhost.frontend    prints the newer one's folder, for ComfyUI's --front-end-root
"""

from __future__ import annotations

import sys
from pathlib import Path

from comfyhost.install import Pip, exit_code, only_one, say
from comfyhost.packed_folders import PackedFolder
from comfyhost.places import TOOLS, ToolError, cache_folder

INSTALLED = "installed"
NEWER = "1.58.1"
FRONT_ENDS = (INSTALLED, NEWER)
PAGE = PackedFolder(
    "ComfyUI's page", TOOLS / "frontend-wheel.txt", "comfyui_frontend_package/static/", ("index.html", "assets")
)


def server_arguments(front_end: str) -> list[str]:
    """Return the arguments that make ComfyUI serve this front end; the newer one is downloaded if it is missing."""
    if front_end == INSTALLED:
        return []
    if front_end != NEWER:
        raise ToolError(f"There is no front end {front_end!r} here. Choose one of: {', '.join(FRONT_ENDS)}.")
    return ["--front-end-root", str(newer_front_end())]


def newer_front_end() -> Path:
    """The folder with the newer page's static files."""
    cache = cache_folder()
    folder = cache / f"frontend-{NEWER}"
    with only_one(cache / "frontend.lock"):
        if not PAGE.is_at(folder):
            say(f"ComfyUI's page {NEWER} (29 MB, once)")
            PAGE.unpack(folder, Pip(Path(sys.executable), cache / "frontend.log"))
    return folder


if __name__ == "__main__":
    sys.exit(exit_code(lambda: print(newer_front_end())))
