"""Adapter files that were trained here: writing them, and the instructions that they name."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..files.atomic_write import writing

ENTRY = "instructions"
# A file's head should stay small.
MOST_INSTRUCTIONS = 500
LONGEST_INSTRUCTION = 300  # characters


def write_adapter(weights: Mapping[str, Tensor], target: Path, note: str, instructions: Iterable[str] = ()) -> None:
    """Write weights under published names as a file in half precision, whole or not at all.

    note, instructions: where and on what it was trained, for the file's metadata.
    Raises ValueError when it cannot be written.
    """
    halves = {name: weight.detach().to("cpu", torch.float16).contiguous() for name, weight in weights.items()}
    size = sum(weight.nbytes for weight in halves.values())
    with writing(target, "The adapter's weights", size, "choose another place") as partial:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(halves, partial, metadata={"format": "pt", "trained": note, **metadata_of(instructions)})


def metadata_of(instructions: Iterable[str]) -> dict[str, str]:
    kept = [text for text in dict.fromkeys(instructions) if len(text) <= LONGEST_INSTRUCTION][:MOST_INSTRUCTIONS]
    return {ENTRY: json.dumps(kept)} if kept else {}


def instructions_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the instructions that metadata names; none where it names none, or something else."""
    try:
        found = json.loads(metadata.get(ENTRY, "[]"))
    except (ValueError, RecursionError):
        return ()
    texts = found[:MOST_INSTRUCTIONS] if isinstance(found, list) else []
    return tuple(text for text in texts if isinstance(text, str) and len(text) <= LONGEST_INSTRUCTION)
