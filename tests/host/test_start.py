"""What ComfyUI's start imports of the pack: nothing heavy, and the same whether optional packages are there or not.

The time is measured by `make bench`; here is what it depends on.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pack
import pytest
from benchmarks.starting import LOAD_PACK, OPTIONAL
from comfyhost.places import host

# Rooms of the pack that wait until a node runs.
LATER = ("apply", "begin", "embeds", "hooks", "loaded_adapter", "open_clip_download", "open_clip_towers", "tokens")

TELL = """
print(json.dumps([name for name in sys.modules if name.startswith(pack.replace(".", "_x_"))]))
print(json.dumps(sorted(set(nodes.NODE_CLASS_MAPPINGS) & set(wanted))))
"""


def started(absent: tuple[str, ...], tmp_path) -> tuple[dict, list[str], list[str]]:
    """ComfyUI's own loading of the pack in a fresh process: what it says, the pack's modules, and its nodes."""
    wanted = list(json.loads((pack.ROOT / "node_list.json").read_text(encoding="utf-8")))
    code = f"wanted = {wanted!r}\n{LOAD_PACK}{TELL}"
    arguments = [str(host().comfyui), str(pack.ROOT), str(tmp_path), " ".join(absent), "main.py", "--cpu"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return tuple(json.loads(line) for line in done.stdout.splitlines()[-3:])


@pytest.mark.parametrize("absent", [(), OPTIONAL], ids=["with them", "without them"])
def test_the_pack_starts_with_all_its_nodes_and_without_importing_optional_packages(tmp_path, absent):
    told, modules, nodes = started(absent, tmp_path)
    assert told["loaded"] is True
    assert told["packages"] == []
    assert nodes == sorted(json.loads((pack.ROOT / "node_list.json").read_text(encoding="utf-8")))
    names = {module.rpartition(".")[2] for module in modules}
    assert not names & set(LATER)
