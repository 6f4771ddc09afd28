"""The things that a node's run may not do, and values that are meant to break it. The first read the sources as AST."""

from __future__ import annotations

import ast
import time

import pytest
from comfyhost.places import REPO_ROOT
from ipadapter_instruct.models.encoding.combining import parse_numbers, product_of_cycles
from ipadapter_instruct.models.encoding.open_clip.files import IMAGE_WEIGHTS
from ipadapter_instruct.models.guidance.layer_weights import Layer, parse_layers
from ipadapter_instruct.models.guidance.weight_schedule import HOLD, NOISE, parse_schedule
from ipadapter_instruct.models.messages import LETTERS_SHOWN, LONGEST_LIST, check_choice, check_numbers
from support.refusals import refused

PATHS = [REPO_ROOT / "__init__.py", *REPO_ROOT.glob("models/**/*.py"), *REPO_ROOT.glob("nodes/**/*.py")]
SOURCES = {path.relative_to(REPO_ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
# Only these ask a server for a file: for cli.py download, and for the two open_clip loaders when a download is chosen.
MAY_DOWNLOAD = {"models/files/download.py"}
NETWORK = {"socket", "ssl", "urllib", "requests", "http", "httpx", "aiohttp", "ftplib", "huggingface_hub"}
HARMLESS = {("nodes/shared/routes.py", "aiohttp")}  # the answers of the pack's two routes
ADDRESSES_ONLY = {"urllib.parse"}
FORBIDDEN_MODULES = {"subprocess", "multiprocessing", "ctypes", "shelve", "marshal", "dill", "cloudpickle", "runpy"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "execfile"}
FORBIDDEN_ATTRIBUTES = {
    *(("os", name) for name in ("system", "popen", "fork", "startfile", "chmod", "symlink")),
    *(("os", f"{call}{form}") for call in ("exec", "spawn") for form in ("l", "le", "lp", "v", "ve", "vp", "vpe")),
    *(("pickle", name) for name in ("load", "loads", "Unpickler")),
    ("importlib", "import_module"),
}


def breaches(path: str, source: str) -> list[str]:
    """The parts of a source that could run code, start programs or reach the network."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [name for name in imported(node) if is_forbidden(path, name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] if (node.value.id, node.attr) in FORBIDDEN_ATTRIBUTES else []
        elif isinstance(node, ast.Call):
            found += calls(node)
    return found


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    whole = [] if node.level else [node.module]
    return whole + [f"{node.module}.{alias.name}" for alias in node.names if not node.level]


def is_forbidden(path: str, name: str) -> bool:
    root = name.partition(".")[0]
    if tuple(name.split(".")[:2]) in FORBIDDEN_ATTRIBUTES or root in FORBIDDEN_MODULES:
        return True
    return root in NETWORK and path not in MAY_DOWNLOAD and (path, root) not in HARMLESS and name not in ADDRESSES_ONLY


def calls(node: ast.Call) -> list[str]:
    if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_NAMES:
        return [node.func.id]
    if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "torch.load":
        safe = [word for word in node.keywords if word.arg == "weights_only" and ast.unparse(word.value) == "True"]
        return [] if safe else ["torch.load without weights_only"]
    return []


def test_no_source_can_run_code_start_programs_or_reach_the_network():
    assert {path: found for path, source in SOURCES.items() if (found := breaches(path, source))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "import subprocess",
        "from os import system",
        "import os\nos.popen('x')",
        "import urllib.request",
        "import requests",
        "from pickle import load",
        "import pickle\npickle.loads(x)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_such_a_source_would_be_found(source):
    assert breaches("models/some.py", source)


def test_only_the_open_clip_loaders_lead_to_a_download():
    importers = {path for path, source in SOURCES.items() if "import download_pretrained" in source}
    assert importers == {"nodes/tools/open_clip.py"}
    users = {
        path
        for path, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level and node.module
        if node.module.rpartition(".")[2] == "download"
    }
    assert users == {"models/encoding/open_clip/pretrained.py"}
    assert all("(download)" in one.choice for one in IMAGE_WEIGHTS)


def test_the_page_never_takes_a_text_for_html_or_code():
    for path in REPO_ROOT.glob("js/**/*.js"):
        source = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in source, f"{word} in {path.name}"


# Values that are meant to break it

LAYERS = [Layer(number, 0, "input") for number in range(16)]
READERS = {
    "numbers": lambda text: parse_numbers(text, "batch_factors"),
    "schedule": lambda text: parse_schedule(text, HOLD, NOISE),
    "layers": lambda text: parse_layers(text, LAYERS),
}
MEGABYTE = 1 << 20
HOSTILE = [
    "0" * MEGABYTE,
    "1," * (MEGABYTE // 2),
    ":" * MEGABYTE,
    " " * MEGABYTE,
    ", " * (MEGABYTE // 2) + "x",
    "0:1," * (MEGABYTE // 4),
    "9" * LONGEST_LIST,
    (":" + " " * 50) * (LONGEST_LIST // 51),
    ("," + " " * 50) * (LONGEST_LIST // 51) + "x",
    "1e400",
    "0: NaN",
    "nan, inf",
    "0: 1e999, 1: 1",
    "\0",
    "\ud800",
    "\N{FULLWIDTH DIGIT ONE}: x",
]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_list_is_refused_at_once_in_few_words(read, text):
    began = time.process_time()
    try:
        read(text)
    except ValueError as error:
        assert len(str(error)) < 600 + LETTERS_SHOWN * 6
        assert "expected" in str(error)
    else:
        assert len(text) <= LONGEST_LIST, "a text that long should not be read"
    assert time.process_time() - began < 1


def test_a_list_as_long_as_an_animation_is_read():
    assert len(parse_numbers("0.85, " * 16000, "batch_factors")) == 16000


def test_two_lists_that_repeat_together_only_after_ages_are_refused():
    refused(
        lambda: product_of_cycles((1.0,) * 9973, (1.0,) * 9967),
        "that repeat together within 1,000,000 pictures",
        "9,973 and 9,967 weights, that takes 99,400,891",
        "as many numbers as there are pictures",
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), -1.0, 3.1, 10**30])
def test_numbers_out_of_their_range_are_refused(number):
    refused(
        lambda: check_numbers(0.0, 3.0, padding=number), "padding was expected to be a number from 0 to 3", "Correct"
    )


def test_a_choice_of_a_megabyte_is_not_repeated():
    with pytest.raises(ValueError) as caught:
        check_choice("mode", "x" * MEGABYTE, ("one", "two"))
    assert len(str(caught.value)) < 500
