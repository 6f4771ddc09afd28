"""ComfyUI's page in versions: the one installed beside ComfyUI, and a newer one kept in the cache folder.

PYTHONPATH=tools python -m comfyhost.frontend    prints the newer one's folder, for ComfyUI's --front-end-root
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from comfyhost.install import Pip, make_folder, only_one, remove, say
from comfyhost.places import TOOLS, ToolError, cache_folder

INSTALLED = "installed"
NEWER = "1.58.1"
FRONT_ENDS = (INSTALLED, NEWER)
WHEEL = TOOLS / "frontend-wheel.txt"
IN_WHEEL = "comfyui_frontend_package/static/"


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
    make_folder(cache)
    folder = cache / f"frontend-{NEWER}"
    with only_one(cache / "frontend.lock"):
        if not is_front_end(folder):
            with open(cache / "frontend.log", "w", encoding="utf-8") as log:
                unpack(folder, Pip(Path(sys.executable), log))
    return folder


def is_front_end(folder: Path) -> bool:
    return (folder / "index.html").is_file() and (folder / "assets").is_dir()


def unpack(folder: Path, pip: Pip) -> None:
    """Download the wheel, check its hash, and move its static files into place whole."""
    say(f"ComfyUI's page {NEWER} (29 MB, once)")
    for left_over in folder.parent.glob("frontend-unpacking-*"):
        remove(left_over)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="frontend-unpacking-") as scratch:
        pip("download", "--no-deps", "--require-hashes", "-r", WHEEL, "-d", scratch)
        unpacked = extract(next(Path(scratch).glob("*.whl")), Path(scratch))
        remove(folder)
        unpacked.rename(folder)


def extract(wheel: Path, scratch: Path) -> Path:
    """Extract the static files from the wheel and return the folder they lie in."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith(IN_WHEEL)]
        archive.extractall(scratch, members)
    unpacked = scratch / IN_WHEEL
    if not is_front_end(unpacked):
        raise ToolError(
            f"{wheel.name} should hold ComfyUI's page under {IN_WHEEL}, but has no index.html and assets/ there. "
            f"Check the version named in {WHEEL}."
        )
    return unpacked


def main() -> int:
    """Print the newer front end's folder on standard output, everything else on standard error."""
    try:
        print(newer_front_end())
    except ToolError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
