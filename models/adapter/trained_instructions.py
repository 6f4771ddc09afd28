"""The instructions that an adapter file was trained on, as this pack notes them in the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

ENTRY = "instructions"
# A file's head should stay small.
MOST_INSTRUCTIONS = 500
LONGEST_INSTRUCTION = 300  # characters


def metadata_of(instructions: Iterable[str]) -> dict[str, str]:
    """Return instructions as metadata for a .safetensors file."""
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
