"""ComfyUI's own nodes run in this process, whichever of its two node APIs they are written in."""

from __future__ import annotations

from collections.abc import Sequence


def host_node(node: type, *values, **inputs) -> Sequence:
    """The node's outputs, by their order. Newer nodes have a class method; older ones name a method of theirs."""
    if hasattr(node, "execute") and hasattr(node, "define_schema"):
        made = node.execute(*values, **inputs)
        return getattr(made, "args", made)  # HyperTile of 0.3.75 gives a plain tuple
    return getattr(node(), node.FUNCTION)(*values, **inputs)
