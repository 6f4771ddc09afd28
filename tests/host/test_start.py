"""The modules that ComfyUI's start imports of the pack: nothing heavy, with or without optional packages.

The time is measured by `make bench`; here is what it depends on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from benchmarks.starting import LOAD_PACK, OPTIONAL
from comfyhost.places import REPO_ROOT, host

# Rooms of the pack that wait until a node runs.
LATER = (
    "models.patching.apply",
    "models.patching.run",
    "models.patching.wrappers",
    "models.encoding.embeds",
    "models.encoding.encode",
    "models.encoding.loaded_adapter",
    "models.encoding.open_clip.pretrained",
    "models.encoding.open_clip.towers",
    "models.encoding.tokens",
)

TELL = """
print(json.dumps([name for name in sys.modules if name.startswith(pack.replace(".", "_x_"))]))
print(json.dumps(sorted(set(nodes.NODE_CLASS_MAPPINGS) & set(wanted))))
"""

# What the pack meets in a ComfyUI that is older than its node API.
WITHOUT_NODE_API = """
for name in [name for name in sys.modules if name.startswith("comfy_api.latest")]:
    del sys.modules[name]
import comfy_api
del comfy_api.latest
sys.modules["comfy_api.latest"] = None
"""


def load(code: str, absent: tuple[str, ...], tmp_path) -> subprocess.CompletedProcess:
    """ComfyUI's own loading of the pack in a fresh process."""
    arguments = [str(host().comfyui), str(REPO_ROOT), str(tmp_path), " ".join(absent), "main.py", "--cpu"]
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)


def started(absent: tuple[str, ...], tmp_path) -> tuple[dict, list[str], list[str]]:
    """The report of a start: as the benchmark does, the pack's modules, and its nodes."""
    wanted = list(json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8")))
    done = load(f"wanted = {wanted!r}\n{LOAD_PACK}{TELL}", absent, tmp_path)
    return tuple(json.loads(line) for line in done.stdout.splitlines()[-3:])


@pytest.mark.parametrize("absent", [(), OPTIONAL], ids=["with them", "without them"])
def test_the_pack_starts_with_all_its_nodes_and_without_importing_optional_packages(tmp_path, absent):
    told, modules, nodes = started(absent, tmp_path)
    assert told["loaded"] is True
    assert told["packages"] == []
    assert nodes == sorted(json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8")))
    assert any(module.endswith(".models.guidance.branches") for module in modules)
    assert [module for module in modules if module.endswith(tuple(f".{name}" for name in LATER))] == []


@pytest.mark.long("a second ComfyUI")
def test_a_comfyui_without_the_node_api_is_told_which_one_is_needed(tmp_path):
    floor = re.search(r'requires-comfyui = ">=(.+)"', (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    imported = "import execution, server, nodes\n"
    done = load(LOAD_PACK.replace(imported, imported + WITHOUT_NODE_API), (), tmp_path)
    assert json.loads(done.stdout.splitlines()[-1])["loaded"] is False
    assert f"IPAdapter-Instruct needs ComfyUI {floor} or later, this is ComfyUI" in done.stderr
