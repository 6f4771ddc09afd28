"""Other packs' nodes, from checkouts in the folder that IPADAPTER_INSTRUCT_PACKS names, loaded as ComfyUI loads a pack.

Loading one changes ComfyUI for the rest of the process, as in a user's server: several replace functions of its
samplers. So tests load them when they run, and stand in a folder of their own.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.host_node import host_node

PACKS = "IPADAPTER_INSTRUCT_PACKS"


def nodes_of(name: str) -> dict[str, type]:
    """The nodes of the pack whose checkout has this name, by their ids; its test is skipped where there are none."""
    folder = Path(os.environ.get(PACKS, ""), name)
    if PACKS not in os.environ or not (folder / "__init__.py").is_file():
        pytest.skip(f"{PACKS} names no folder with a checkout of {name}")
    loaded = _loaded(folder)
    if isinstance(loaded, Exception):
        pytest.skip(f"this checkout of {name} does not load here: {loaded}")
    return loaded


def module_of(name: str, part: str):
    """A module of a pack that `nodes_of` has loaded, for what is no node."""
    return sys.modules[f"{name}.{part}"]


def outputs_of(node: type, *values, **inputs) -> Sequence:
    """A node's outputs, by their order, whichever of ComfyUI's two node APIs it is written in."""
    if hasattr(node, "define_schema"):
        return host_node(node, *values, **inputs)
    return getattr(node(), node.FUNCTION)(*values, **inputs)


@functools.cache
def _loaded(folder: Path) -> dict[str, type] | Exception:
    """Source: ComfyUI 0.3.75, nodes.py: `load_custom_node`."""
    pytests_own = os.environ.pop("PYTEST_CURRENT_TEST")  # under which a pack may leave its nodes out
    spec = importlib.util.spec_from_file_location(
        folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = sys.modules[folder.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, "NODE_CLASS_MAPPINGS", None) or asyncio.run(_of_entrypoint(module))
    except Exception as error:
        return error
    finally:
        os.environ["PYTEST_CURRENT_TEST"] = pytests_own


async def _of_entrypoint(module) -> dict[str, type]:
    extension = await module.comfy_entrypoint()
    return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}
