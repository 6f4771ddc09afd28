"""The time that the pack adds to ComfyUI's start."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from comfyhost.places import REPO_ROOT

from benchmarks import COMFYUI, HOST_ARGUMENTS
from benchmarks.report import Result

OPTIONAL = ("open_clip", "insightface")
LOAD_PACK = """
import asyncio, json, sys, time
comfyui, pack, bytecode, absent, *sys.argv = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent.split()))  # makes importing them fail
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config
import execution, server, nodes
from comfy_config import config_parser

sys.pycache_prefix, sys.dont_write_bytecode = bytecode, False
before = set(sys.modules)
start = time.perf_counter()
loaded = asyncio.run(nodes.load_custom_node(pack))
ms = 1000 * (time.perf_counter() - start)
new = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
new.discard(pack.replace(".", "_x_"))
print(json.dumps({"loaded": loaded, "ms": ms, "packages": sorted(new)}))
"""


def start_up(runs: int) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as bytecode:
        first, *later = (load_pack(bytecode) for _ in range(runs + 1))
        without = [load_pack(bytecode, OPTIONAL) for _ in range(runs)]
    yield summary("first ever, compiling", [first])
    yield summary(f"later, median of {runs}", later)
    yield summary(f"later, without {' and '.join(OPTIONAL)}", without)


def summary(what: str, starts: list[dict]) -> Result:
    """Sum up several starts. Packages that ComfyUI had not imported itself would be the heavy ones."""
    times = [start["ms"] for start in starts]
    new = {package for start in starts for package in start["packages"]}
    values = {"ms": statistics.median(times), "min": min(times), "max": max(times)}
    counts = {"failed": sum(not start["loaded"] for start in starts), "new packages": len(new)}
    return Result(what, {**values, **counts}, {"failed": 0, "new packages": 0})


def load_pack(bytecode: str, absent: Sequence[str] = ()) -> dict:
    """Let ComfyUI load the pack in a fresh process that has imported ComfyUI and cannot import `absent`."""
    arguments = [str(COMFYUI), str(REPO_ROOT), bytecode, " ".join(absent), *HOST_ARGUMENTS]
    command = [sys.executable, "-c", LOAD_PACK, *arguments]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode:
        sys.exit(f"error: ComfyUI could not be imported:\n{child.stderr}")
    return json.loads(child.stdout.splitlines()[-1])
