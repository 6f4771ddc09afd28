"""The pack's own sources: which room may import what, and habits that tools and users rely on. Read as AST."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pack
import pytest

SOURCES = sorted(
    path.relative_to(pack.ROOT).as_posix()
    for path in (pack.ROOT / "__init__.py", *pack.ROOT.glob("models/**/*.py"), *pack.ROOT.glob("nodes/**/*.py"))
)
LONGEST = 320
NODE_IDS = {
    "IPAdapterInstructLoader",
    "IPAdapterInstructEncode",
    "IPAdapterInstructApply",
    "IPAdapterInstructReference",
    "IPAdapterInstructEncodeReferences",
    "IPAdapterInstructCombine",
    "IPAdapterInstructCutOut",
    "IPAdapterInstructCropAround",
    "IPAdapterInstructTile",
    "IPAdapterInstructSaveEmbeds",
    "IPAdapterInstructLoadEmbeds",
    "IPAdapterInstructEncodeStored",
    "IPAdapterInstructSchedule",
    "IPAdapterInstructThen",
    "IPAdapterInstructLayers",
    "IPAdapterInstructGuider",
    "IPAdapterInstructTask",
    "IPAdapterInstructGrid",
    "IPAdapterInstructLabelGrid",
    "IPAdapterInstructWatch",
    "IPAdapterInstructHeatMap",
    "IPAdapterInstructConvert",
    "IPAdapterInstructTrain",
    "IPAdapterInstructImageEncoder",
    "IPAdapterInstructTextEncoder",
    "IPAdapterInstructFaceAnalysis",
    "IPAdapterInstructReadFace",
    "IPAdapterInstructSaveFace",
    "IPAdapterInstructLoadFace",
}


@dataclass(frozen=True)
class Room:
    """A part of the pack: which other parts and which packages its files may import, now or later."""

    own: tuple[str, ...]
    packages: frozenset[str]
    lazily: frozenset[str] = frozenset()


TORCH = frozenset({"torch", "einops", "safetensors"})
ROOMS = {
    "models/patching": Room(
        ("models", "models/patching"), TORCH | {"comfy", "comfyui_version"}, lazily=frozenset({"open_clip"})
    ),
    "models/training": Room(
        ("models", "models/patching", "models/training"),
        TORCH | {"comfy"},
        lazily=frozenset({"PIL", "accelerate", "webdataset"}),
    ),
    "models": Room(("models",), TORCH, lazily=frozenset({"certifi", "filelock", "insightface", "onnxruntime"})),
    "nodes": Room(
        ("models", "models/patching", "models/training", "nodes"),
        TORCH | {"PIL", "aiohttp", "comfy", "comfy_api", "comfy_execution", "folder_paths", "server"},
    ),
    "": Room(("nodes",), frozenset({"comfy_api", "comfyui_version", "folder_paths"})),
}


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
            allowed = room_of(found.module) in room.own
        else:
            allowed = found.module in room.packages or found.module in sys.stdlib_module_names
            allowed = allowed or (found.module in room.lazily and not found.at_top)
        if not allowed:
            wrong.append(f"{path}:{found.line} imports {found.module}")
    return wrong


def bad_habits(path: str, source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "eval", "exec"):
            found.append(f"{path}:{node.lineno} calls {node.func.id}")
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised, ast.Name) and raised.id in ("Exception", "BaseException"):
                found.append(f"{path}:{node.lineno} raises a bare {raised.id}")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{path}:{node.lineno} catches everything")
    return found


def node_ids_that_manager_sees(source: str) -> list[str]:
    """As ComfyUI-Manager's scanner reads them: a direct base ComfyNode or X.ComfyNode, and in its own plain
    define_schema a call named Schema with a literal node_id."""
    ids = []
    for cls in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef)):
        if not any(getattr(b, "attr", getattr(b, "id", None)) == "ComfyNode" for b in cls.bases):
            continue
        methods = (m for m in cls.body if isinstance(m, ast.FunctionDef) and m.name == "define_schema")
        calls = (c for m in methods for c in ast.walk(m) if isinstance(c, ast.Call))
        schemas = (c for c in calls if getattr(c.func, "attr", getattr(c.func, "id", None)) == "Schema")
        keywords = (k.value for c in schemas for k in c.keywords if k.arg == "node_id")
        ids += [value.value for value in keywords if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return ids


def read(path: str) -> str:
    return (pack.ROOT / path).read_text(encoding="utf-8")


def test_there_are_sources_in_every_room():
    assert {room_of(path) for path in SOURCES} == set(ROOMS)


def test_imports_run_one_way_and_reach_no_further_than_the_room_may():
    assert [wrong for path in SOURCES for wrong in wrong_imports(path, read(path))] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("models/resampler.py", "import comfy.ops"),
        ("models/resampler.py", "from . import patching"),
        ("models/resampler.py", "from .patching import unet"),
        ("models/resampler.py", "from .patching.unet import attend"),
        ("models/resampler.py", "from ..nodes import NODES"),
        ("models/resampler.py", "import diffusers"),
        ("models/patching/unet.py", "import folder_paths"),
        ("models/patching/unet.py", "from ...nodes import schema"),
        ("models/patching/unet.py", "import open_clip"),
        ("nodes/schema.py", "import models.patching"),
        ("nodes/schema.py", "import nodes"),
        ("nodes/schema.py", "from .. import MODEL_FOLDER"),
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
        ("models/tasks.py", "from .families import SD15"),
        ("models/patching/run.py", "from ..branches import Branch"),
        ("models/patching/run.py", "from . import hooks"),
        ("models/patching/run.py", "def f():\n    import open_clip"),
        ("nodes/schema.py", "from ..models.patching.pixels import FITS"),
        ("__init__.py", "from .nodes import NODES"),
    ],
)
def test_a_right_import_would_pass(path, line):
    assert wrong_imports(path, line) == []


def test_nothing_is_printed_evaluated_or_raised_bare():
    assert [habit for path in SOURCES for habit in bad_habits(path, read(path))] == []


@pytest.mark.parametrize("line", ["print(1)", "eval('1')", "exec('1')", "raise Exception('x')", "raise Exception"])
def test_a_bad_habit_would_be_seen(line):
    assert len(bad_habits("x.py", line)) == 1


def test_every_file_is_short():
    assert [path for path in SOURCES if len(read(path).splitlines()) >= LONGEST] == []


def test_every_file_is_ascii_so_that_every_locale_can_read_it():
    assert [path for path in SOURCES if not (pack.ROOT / path).read_bytes().isascii()] == []


def test_manager_sees_every_node_by_its_id():
    ids = [node_id for path in SOURCES for node_id in node_ids_that_manager_sees(read(path))]
    assert sorted(ids) == sorted(NODE_IDS)


@pytest.mark.parametrize(
    "source",
    [
        "class A(Base):\n  def define_schema(cls):\n    return io.Schema(node_id='A')",
        "class A(io.ComfyNode):\n  def define_schema(cls):\n    return io.Schema(node_id=NAME)",
        "class A(io.ComfyNode):\n  async def define_schema(cls):\n    return io.Schema(node_id='A')",
    ],
)
def test_manager_would_not_see_a_node_that_hides_its_id(source):
    assert node_ids_that_manager_sees(source) == []


def test_nodes_are_registered_the_new_way_only():
    assert [path for path in SOURCES if "NODE_CLASS_MAPPINGS" in read(path)] == []


def test_the_page_puts_work_off_in_one_place_which_asks_whether_the_node_is_still_there():
    put_off = re.compile(r"\b(setTimeout|setInterval|requestAnimationFrame|queueMicrotask)\b|\.(then|finally)\(")
    scripts = sorted(pack.ROOT.glob("js/*.js"))
    assert [path.name for path in scripts if put_off.search(path.read_text(encoding="utf-8"))] == ["there.js"]
