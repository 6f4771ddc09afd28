"""Bundle what the measurements need beside torch: sources of the pack and of ComfyUI, and python packages.

Packages are this environment's, for a machine with the same python; one that the machine has itself comes first there.
torch, torchvision and torchaudio, with what they require, are the machine's own.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from comfyhost.places import REPO_ROOT

from gpu_parts import SITE

MOST = 60e6  # bytes of the archive
OWN = (
    *("models", "pyproject.toml", "tools/gpu.py", "tools/gpu_parts", "tools/benchmarks", "tools/comfyhost"),
    *("tests/golden", "tests/host", "tests/support"),
)
COMFYUIS = ("comfy", "comfy_api", "comfy_config", "comfy_execution", "utils", "*.py")
TORCHS = ("torch", "torchvision", "torchaudio")
PACKAGES = (  # with what they require; scipy and most others are ComfyUI's
    *("einops", "numpy", "pillow", "psutil", "pytest", "pyyaml", "safetensors", "scipy", "tokenizers", "torchsde"),
    *("tqdm", "transformers"),
)
DYNAMIC_VRAM = "comfy-aimdo"  # newer ComfyUIs'
LEFT_OUT = re.compile(r"(^|/)(tests|__pycache__|\.\.)/|^hf_xet/")


def missing() -> list[str]:
    return [name for name in PACKAGES if not with_requirements([name])]


def write(path: Path, comfyui: Path) -> str:
    """Write the archive and return in words what to do with it. Raises ValueError for one that is too large."""
    with tarfile.open(path, "w:xz", preset=1) as archive:
        for file, name in files(comfyui):
            archive.add(file, f"gpu/{name}", recursive=False)
    size = path.stat().st_size
    if size > MOST:
        raise ValueError(f"The archive was expected to have at most {MOST / 1e6:.0f} MB; it has {size / 1e6:.1f} MB.")
    start = "python gpu/pack/tools/gpu.py --comfyui gpu/ComfyUI"
    return f"{path} has {size / 1e6:.1f} MB. On the other machine: tar xf {path.name} && {start}"


def files(comfyui: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file, and its name in the archive."""
    for root, folder, parts in ((REPO_ROOT, "pack", OWN), (comfyui, "ComfyUI", COMFYUIS)):
        for path in (path for part in parts for found in root.glob(part) for path in (found, *found.rglob("*"))):
            if path.is_file() and path.suffix != ".pyc":
                yield path, f"{folder}/{path.relative_to(root)}"
    for package in with_requirements([*PACKAGES, DYNAMIC_VRAM]) - with_requirements(TORCHS):
        for file in metadata.files(package) or ():
            if not LEFT_OUT.search(str(file)):
                yield Path(str(file.locate())), f"pack/{SITE.name}/{file}"


def with_requirements(names: Iterable[str]) -> set[str]:
    """Return those of the packages that are installed, and all that they require here."""
    found, asked = set(), list(names)
    while asked:
        name = re.sub(r"[-_.]+", "-", asked.pop()).lower()
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            asked += [re.split(r"[^\w.-]", one)[0] for one in required if "extra ==" not in one]
    return found
