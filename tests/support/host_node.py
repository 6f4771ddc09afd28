"""ComfyUI's own nodes run in this process."""

from __future__ import annotations

from collections.abc import Sequence


def host_node(node: type, *values, **inputs) -> Sequence:
    """The node's outputs, by their order."""
    made = node.execute(*values, **inputs)
    return getattr(made, "args", made)  # HyperTile of 0.3.75 gives a plain tuple
