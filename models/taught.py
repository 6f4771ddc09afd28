"""What an adapter file that was taught by this pack says of the instructions it was taught."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

ENTRY = "instructions"
MOST, LONGEST = 500, 300  # instructions, and characters of one: a file's head should stay small


def noted(instructions: Iterable[str]) -> dict[str, str]:
    """Metadata for a .safetensors file."""
    kept = [text for text in dict.fromkeys(instructions) if len(text) <= LONGEST][:MOST]
    return {ENTRY: json.dumps(kept)} if kept else {}


def instructions_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The instructions that metadata names; none where it names none, or something else."""
    try:
        found = json.loads(metadata.get(ENTRY, "[]"))
    except (ValueError, RecursionError):
        return ()
    texts = found if isinstance(found, list) else []
    return tuple(text for text in texts[:MOST] if isinstance(text, str) and len(text) <= LONGEST)


def is_among(instruction: str, taught: Iterable[str]) -> bool:
    """Whether an instruction is one of those taught, but for case and space around it."""
    return instruction.strip().lower() in {text.strip().lower() for text in taught}
