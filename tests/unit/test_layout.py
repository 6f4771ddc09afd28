"""The pack's own sources: which room may import what, and habits that tools and users rely on. Read as AST."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from comfyhost.places import REPO_ROOT

SOURCES = sorted(
    path.relative_to(REPO_ROOT).as_posix()
    for path in (
        *(REPO_ROOT / "__init__.py", REPO_ROOT / "cli.py", *REPO_ROOT.glob("commands/*.py")),
        *(*REPO_ROOT.glob("models/**/*.py"), *REPO_ROOT.glob("nodes/**/*.py")),
    )
)
LONGEST = 320
NODE_IDS = {
    "IPAdapterInstructLoader",
    "IPAdapterInstructEncode",
    "IPAdapterInstructApply",
    "IPAdapterInstructReference",
    "IPAdapterInstructCombine",
    "IPAdapterInstructPrepare",
    "IPAdapterInstructTile",
    "IPAdapterInstructSaveEmbeds",
    "IPAdapterInstructLoadEmbeds",
    "IPAdapterInstructSchedule",
    "IPAdapterInstructLayers",
    "IPAdapterInstructTask",
    "IPAdapterInstructGrid",
    "IPAdapterInstructLabelGrid",
    "IPAdapterInstructWatch",
    "IPAdapterInstructHeatMap",
    "IPAdapterInstructOpenClip",
    "IPAdapterInstructTrain",
    "IPAdapterInstructReadFace",
    "IPAdapterInstructLoadFace",
}


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
    "models": Room(GROUND, TORCH),
    "nodes": Room(
        ("models", "nodes"),
        TORCH | {"PIL", "aiohttp", "comfy", "comfy_api", "comfy_execution", "folder_paths", "server"},
    ),
    "commands": Room(("models", "commands"), frozenset(), lazily=frozenset({"comfy"})),
    "": Room(("nodes",), frozenset({"comfy_api", "comfyui_version", "folder_paths"})),
}
MOST_FILES = 15  # of a folder
LONGEST_CHAIN = 13  # modules of models/, each importing the next
MOST_FIELDS, MOST_PARAMETERS = 8, 6
RIDDLES = re.compile(r"(Of|As|What|Where|Another|Something|How|Whether|Which|When|If|For|In|With)\b")
# Rows of tables of facts, what a trainer may set, and the inputs of Apply.
WIDE_CLASSES = {"Family", "Kind", "ProjectionSizes", "ResamplerSizes", "Job", "TrainingArguments"}
# Called by the host, with what it says.
HOSTS_FUNCTIONS = {"execute", "validate_inputs", "fingerprint_inputs", "sampler_sample", "apply_model", "_get_control"}


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


def bad_habits(path: str, source: str) -> list[str]:
    found = []
    on_a_terminal = path == "cli.py" or path.startswith("commands/")
    never = ("eval", "exec") if on_a_terminal else ("print", "eval", "exec")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in never:
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
    return (REPO_ROOT / path).read_text(encoding="utf-8")


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


def too_wide(path: str, source: str) -> list[str]:
    """Classes of too many fields, and functions of too many parameters."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name not in WIDE_CLASSES:
            noted = [
                a for a in node.body if isinstance(a, ast.AnnAssign) and "ClassVar" not in ast.unparse(a.annotation)
            ]
            fields = [a for a in noted if not a.target.id.startswith("_")]
            if len(fields) > MOST_FIELDS:
                found.append(f"{path}:{node.lineno} {node.name} has {len(fields)} fields")
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in HOSTS_FUNCTIONS:
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                found.append(f"{path}:{node.lineno} {node.name} has {count} parameters")
    return found


def constants(source: str) -> dict[str, str]:
    """The constants that a module sets, as it writes them."""
    found = {}
    for node in ast.parse(source).body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            split = isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(names) and len(names) > 1
            values = node.value.elts if split else [node.value] * len(names)
            found |= {
                name.id: ast.unparse(value)
                for name, value in zip(names, values, strict=True)
                if isinstance(name, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]*", name.id)
            }
    return found


def test_no_folder_has_so_many_files_that_its_idea_is_lost():
    folders = [path.rpartition("/")[0] for path in SOURCES]
    assert {folder: folders.count(folder) for folder in folders if folders.count(folder) > MOST_FILES} == {}


def test_each_folder_says_in_a_few_lines_what_is_in_it():
    maps = [path for path in SOURCES if path.startswith("models/") and path.endswith("__init__.py")]
    lengths = {path: len(read(path).splitlines()) for path in maps}
    assert {path: length for path, length in lengths.items() if not 3 <= length <= 15} == {}


def test_no_chain_of_imports_is_long():
    imported = module_imports({path: read(path) for path in SOURCES if path.startswith("models/")})
    chain = longest_chain(imported)
    assert len(chain) <= LONGEST_CHAIN, chain


def test_a_chain_and_a_circle_would_be_seen():
    sources = {"models/a.py": "from .b import x", "models/b.py": "from . import c", "models/c.py": "import torch"}
    assert longest_chain(module_imports(sources)) == ["models/a.py", "models/b.py", "models/c.py"]
    with pytest.raises(ValueError, match="import each other"):
        longest_chain(module_imports({**sources, "models/c.py": "from .a import x"}))


def test_classes_and_functions_hold_what_one_can_keep_in_mind():
    assert [wide for path in SOURCES for wide in too_wide(path, read(path))] == []


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n" + "".join(f"  x{number}: int\n" for number in range(9)),
        "def f(a, b, c, d, *, e, f, g): pass",
        "class A:\n  def f(self, a, b, c, d, e, f, g): pass",
    ],
)
def test_a_wide_class_or_function_would_be_seen(source):
    assert len(too_wide("x.py", source)) == 1


def test_a_constants_name_means_one_thing():
    meanings: dict[str, set[str]] = {}
    for path in SOURCES:
        for name, value in constants(read(path)).items():
            meanings.setdefault(name, set()).add(value)
    assert {name: values for name, values in meanings.items() if len(values) > 1} == {}


def test_a_constant_of_two_meanings_would_be_seen():
    assert constants("A, B = 1, 2\nC = (3, 4)\nd = 5") == {"A": "1", "B": "2", "C": "(3, 4)"}


def riddles(path: str, source: str) -> list[str]:
    """Docstrings whose first line is no plain sentence: it begins in the middle of one."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            riddle = RIDDLES.match(ast.get_docstring(node) or "")
            if riddle:
                found.append(f"{path}:{getattr(node, 'lineno', 1)} begins with {riddle[0]}")
    return found


def test_a_docstring_begins_with_a_plain_sentence():
    assert [riddle for path in SOURCES for riddle in riddles(path, read(path))] == []


def test_a_riddle_would_be_seen():
    source = 'def f():\n    """Of all steps, the first."""\n\ndef g():\n    """Return the first step."""'
    assert riddles("x.py", source) == ["x.py:1 begins with Of"]


def test_nothing_is_printed_evaluated_or_raised_bare():
    assert [habit for path in SOURCES for habit in bad_habits(path, read(path))] == []


@pytest.mark.parametrize("line", ["print(1)", "eval('1')", "exec('1')", "raise Exception('x')", "raise Exception"])
def test_a_bad_habit_would_be_seen(line):
    assert len(bad_habits("x.py", line)) == 1


def test_every_file_is_short():
    assert [path for path in SOURCES if len(read(path).splitlines()) >= LONGEST] == []


def test_every_file_is_ascii_so_that_every_locale_can_read_it():
    assert [path for path in SOURCES if not (REPO_ROOT / path).read_bytes().isascii()] == []


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
    scripts = sorted(REPO_ROOT.glob("js/*.js"))
    assert [path.name for path in scripts if put_off.search(path.read_text(encoding="utf-8"))] == ["there.js"]
