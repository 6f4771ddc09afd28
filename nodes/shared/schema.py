"""Schema fields that older versions of ComfyUI do not know, in its nodes and in their inputs."""

from __future__ import annotations

import dataclasses

from comfy_api.latest import io


def schema(base: io.Schema, **newer) -> io.Schema:
    """Return `base` with those of the `newer` fields that this ComfyUI has."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    for name, value in newer.items():
        if name in known:
            setattr(base, name, value)
    return base


def advanced(one: io.Input) -> io.Input:
    """Have the page fold an input away until it is asked for."""
    one.extra_dict["advanced"] = True
    return one
