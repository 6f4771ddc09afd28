"""Shipped workflows with nodes of ComfyUI's own that the oldest ComfyUI does not have yet."""

from __future__ import annotations

from collections.abc import Container

import pytest
from comfyhost.places import COMFYUI_VERSION


def newer_nodes(workflow: dict) -> dict[str, str]:
    """The types of such nodes, and the version that each says it needs."""
    said = {node["type"]: node["properties"] for node in workflow["nodes"]}
    ours = {kind: one["ver"] for kind, one in said.items() if one.get("cnr_id") == "comfy-core"}
    return {kind: version for kind, version in ours.items() if version != COMFYUI_VERSION}


def skip_unless_known(workflow: dict, known: Container[str]) -> None:
    """Skip the test on a ComfyUI that is too old for the workflow. known: the types of nodes that it has."""
    for kind, version in newer_nodes(workflow).items():
        if kind not in known:
            pytest.skip(f"{kind} needs ComfyUI {version}")
