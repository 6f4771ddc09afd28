"""The pack's own sources: how large they are, how their docstrings begin, and habits that tools and users rely on.

Read as AST. Files of tests and tools are held to the same length.
"""

from __future__ import annotations

import ast
import re

import pytest
from comfyhost.places import REPO_ROOT
from support.pack_sources import SOURCES, read

LONGEST = 320  # lines of a file; of tests and tools too
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
MOST_FILES = 15  # of a folder
MOST_FIELDS, MOST_PARAMETERS = 8, 6
RIDDLES = re.compile(r"(Of|As|What|Where|Another|Something|How|Whether|Which|When|If|For|In|With)\b")

# Rows of tables of facts, what a trainer may set, and the inputs of Apply.
WIDE_CLASSES = {"Family", "Kind", "ProjectionSizes", "Job", "TrainingArguments"}

# Called by the host, with what it says.
HOSTS_FUNCTIONS = {"execute", "validate_inputs", "fingerprint_inputs", "sampler_sample", "apply_model"}


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
    """Node ids as ComfyUI-Manager's scanner reads them: a direct base ComfyNode or X.ComfyNode, and in its own plain
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
    """Files of tests and tools are held to it too."""
    others = [path.as_posix() for folder in ("tests", "tools") for path in (REPO_ROOT / folder).rglob("*.py")]
    assert [path for path in (*SOURCES, *others) if len(read(path).splitlines()) >= LONGEST] == []


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
