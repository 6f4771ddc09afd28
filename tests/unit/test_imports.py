"""Imports of the pack's own sources: which room may import what, and how long chains of them are. Read as AST."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.pack_sources import SOURCES, read


@dataclass(frozen=True)
class Room:
    """A part of the pack: which other parts and which packages its files may import, now or later."""

    own: tuple[str, ...]
    packages: frozenset[str]
    lazily: frozenset[str] = frozenset()


TORCH = frozenset({"torch", "einops", "safetensors"})
COMFY = TORCH | {"comfy"}
GROUND = ("models/families.py", "models/messages.py", "models/bounded_cache.py")

# From the ground up: a room's files may import those of the rooms before it, as far as they are named.
ROOMS = {
    "models/guidance": Room((*GROUND,), TORCH),
    "models/files": Room((*GROUND,), TORCH, lazily=frozenset({"filelock", "huggingface_hub"})),
    "models/denoisers": Room((*GROUND, "models/guidance"), COMFY),
    "models/adapter": Room((*GROUND, "models/guidance", "models/files", "models/denoisers"), TORCH),
    "models/reference": Room((*GROUND, "models/files"), TORCH, lazily=frozenset({"insightface", "onnxruntime"})),
    "models/encoding": Room(
        (*GROUND, "models/guidance", "models/files", "models/adapter", "models/reference"),
        COMFY | {"comfyui_version"},
        lazily=frozenset({"open_clip"}),
    ),
    "models/patching": Room((*GROUND, "models/guidance", "models/denoisers", "models/encoding"), COMFY),
    "models/attention_maps": Room(("models/guidance", "models/denoisers", "models/patching"), COMFY),
    "models/training": Room(
        (
            *GROUND,
            "models/guidance",
            "models/files",
            "models/denoisers",
            "models/adapter",
            "models/encoding",
            "models/patching",
        ),
        COMFY,
        lazily=frozenset({"PIL", "accelerate", "webdataset"}),
    ),
    "models/drawing": Room((), TORCH | {"PIL"}),
    "models": Room(GROUND, TORCH),
    "nodes": Room(
        ("models", "nodes"),
        TORCH | {"PIL", "aiohttp", "comfy", "comfy_api", "comfy_execution", "folder_paths", "server"},
    ),
    "commands/pairs": Room(("models", "commands"), frozenset(), lazily=frozenset({"PIL"})),
    "commands/servers": Room(("commands/servers",), frozenset({"aiohttp"}), lazily=frozenset({"PIL", "filelock"})),
    "commands/evaluate": Room(
        ("models", "commands"),
        TORCH | {"PIL"},
        lazily=frozenset({"PIL", "comfy", "open_clip", "torchmetrics", "transformers"}),
    ),
    "commands/train": Room(("models", "commands"), COMFY),
    "commands/instructions": Room(("models", "commands"), TORCH | {"PIL"}, lazily=frozenset({"comfy", "sklearn"})),
    "commands": Room(("models", "commands"), frozenset(), lazily=frozenset({"comfy"})),
    "": Room(("nodes",), frozenset({"comfy_api", "comfyui_version", "folder_paths"})),
}
LONGEST_CHAIN = 13  # modules of models/, each importing the next


@dataclass(frozen=True)
class Import:
    """`module` is a path inside the pack for a relative import, else a package's name."""

    module: str
    relative: bool
    at_top: bool
    line: int


def room_of(path: str) -> str:
    """The room of a file, or of an imported name, by its path inside the pack."""
    return next(room for room in ROOMS if f"{path}/".startswith(f"{room}/") or not room)


def may_import(room: str, module: str) -> bool:
    """Whether files of a room may import a module, or a name in it, by its path inside the pack."""
    own = ROOMS[room].own if room == "models" else (room, *ROOMS[room].own)
    return any(f"{module}/".startswith(f"{known.removesuffix('.py')}/") for known in own)


def imports(path: str, source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    functions = (f for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)))
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name.partition(".")[0], False, at_top, node.lineno)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(node.module.partition(".")[0], False, at_top, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = path.split("/")[: -node.level]
            named = node.module.split(".") if node.module else []
            for alias in node.names:
                yield Import("/".join([*base, *named, alias.name]), True, at_top, node.lineno)


def wrong_imports(path: str, source: str) -> list[str]:
    room = ROOMS[room_of(path)]
    wrong = []
    for found in imports(path, source):
        if found.relative:
            allowed = may_import(room_of(path), found.module)
        else:
            allowed = found.module in room.packages or found.module in sys.stdlib_module_names
            allowed = allowed or (found.module in room.lazily and not found.at_top)
        if not allowed:
            wrong.append(f"{path}:{found.line} imports {found.module}")
    return wrong


def test_there_are_sources_in_every_room():
    assert {room_of(path) for path in SOURCES} == set(ROOMS)


def test_imports_run_one_way_and_reach_no_further_than_the_room_may():
    assert [wrong for path in SOURCES for wrong in wrong_imports(path, read(path))] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("models/adapter/resampler.py", "import comfy.ops"),
        ("models/adapter/resampler.py", "from .. import patching"),
        ("models/adapter/resampler.py", "from ..patching import run"),
        ("models/adapter/resampler.py", "from ..patching.run import Run"),
        ("models/adapter/resampler.py", "from ..nodes import NODES"),
        ("models/adapter/resampler.py", "import diffusers"),
        ("models/denoisers/unet.py", "import folder_paths"),
        ("models/denoisers/unet.py", "from ...nodes import schema"),
        ("models/denoisers/unet.py", "import open_clip"),
        ("nodes/shared/schema.py", "import models.patching"),
        ("nodes/shared/schema.py", "import nodes"),
        ("nodes/shared/schema.py", "from ... import MODEL_FOLDER"),
        ("__init__.py", "import torch"),
        ("__init__.py", "from .models.families import SD15"),
        ("__init__.py", "import open_clip"),
    ],
)
def test_a_wrong_import_would_be_seen(path, line):
    assert len(wrong_imports(path, line)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("models/guidance/tasks.py", "from .families import SD15"),
        ("models/patching/run.py", "from ..guidance.branches import Branch"),
        ("models/patching/run.py", "from . import hooks"),
        ("models/encoding/open_clip/towers.py", "def f():\n    import open_clip"),
        ("nodes/shared/schema.py", "from ..models.patching.pixels import FITS"),
        ("__init__.py", "from .nodes import NODES"),
    ],
)
def test_a_right_import_would_pass(path, line):
    assert wrong_imports(path, line) == []


def module_imports(sources: dict[str, str]) -> dict[str, set[str]]:
    """Each file's imports of others among the sources."""

    def file_of(module: str) -> str | None:
        return next((f for f in (f"{module}.py", f"{module}/__init__.py") if f in sources), None)

    found = {}
    for path, source in sources.items():
        relative = (one.module for one in imports(path, source) if one.relative)
        files = (file_of(module) or file_of(module.rpartition("/")[0]) for module in relative)
        found[path] = {file for file in files if file not in (None, path)}
    return found


def longest_chain(imported: dict[str, set[str]]) -> list[str]:
    """The longest list of files of which each imports the next. Raises ValueError for files that import in a circle."""
    known: dict[str, list[str]] = {}

    def chain(path: str, above: tuple[str, ...]) -> list[str]:
        if path in above:
            raise ValueError(f"These import each other: {[*above, path]}")
        if path not in known:
            below = (chain(other, (*above, path)) for other in sorted(imported[path]))
            known[path] = [path, *max(below, key=len, default=[])]
        return known[path]

    return max((chain(path, ()) for path in imported), key=len)


def test_no_chain_of_imports_is_long():
    imported = module_imports({path: read(path) for path in SOURCES if path.startswith("models/")})
    chain = longest_chain(imported)
    assert len(chain) <= LONGEST_CHAIN, chain


def test_a_chain_and_a_circle_would_be_seen():
    sources = {"models/a.py": "from .b import x", "models/b.py": "from . import c", "models/c.py": "import torch"}
    assert longest_chain(module_imports(sources)) == ["models/a.py", "models/b.py", "models/c.py"]
    with pytest.raises(ValueError, match="import each other"):
        longest_chain(module_imports({**sources, "models/c.py": "from .a import x"}))
