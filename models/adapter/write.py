"""Write adapter files that were trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..files.atomic_write import cannot_write, whole
from .trained_instructions import metadata_of

ANOTHER_PLACE = "choose another place"


def write_adapter(weights: Mapping[str, Tensor], target: Path, note: str, instructions: Iterable[str] = ()) -> None:
    """Write weights under published names as a file in half precision, whole or not at all.

    note, instructions: where and on what it was trained, which the file says.

    Raises ValueError when it cannot be written.
    """
    halves = {name: weight.detach().to("cpu", torch.float16).contiguous() for name, weight in weights.items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            save_file(halves, partial, metadata={"format": "pt", "trained": note, **metadata_of(instructions)})
    except (OSError, SafetensorError) as error:
        size = sum(weight.nbytes for weight in halves.values())
        raise ValueError(cannot_write("The adapter's weights", target.parent, error, size, ANOTHER_PLACE)) from error
