"""The base of an environment: ComfyUI's wheel, and torch, the ordinary one or another to try the pack on.

IPADAPTER_INSTRUCT_TORCH names the other (`make test-on`). Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from comfyhost.places import TOOLS, tried_torch

HOST_REQUIREMENTS = TOOLS / "requirements-host.txt"
COMFYUI_WHEEL = TOOLS / "comfyui-wheel.txt"


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
    beside a torch for another CUDA; ComfyUI 0.3.75 does without it.
    """
    if not version:
        return requirements
    changed = re.sub(r"(?m)^torch==.+$", f"torch=={version}", requirements)
    changed = re.sub(r"(?m)^torchvision==.+$", "torchvision", changed)
    return re.sub(r"(?m)^torchaudio==.+\n", "", changed)
