"""cli.py as a user runs it: in a ComfyUI's custom_nodes, in a folder that no python package could be called."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from comfyhost.places import REPO_ROOT

from support.patience import PATIENCE

FOLDER = "ipadapter-instruct.1"
UNUSED = shutil.ignore_patterns("__pycache__", "patching")


def install(comfyui: Path) -> Path:
    """Put the command and what it uses into a ComfyUI's folder; the path of cli.py."""
    folder = comfyui / "custom_nodes" / FOLDER
    for name in ("models", "commands"):
        shutil.copytree(REPO_ROOT / name, folder / name, ignore=UNUSED)
    return Path(shutil.copy(REPO_ROOT / "cli.py", folder))


def start(script: Path, *arguments, flags: tuple[str, ...] = (), **variables: str) -> subprocess.Popen:
    # -I: like a python that does not look for modules beside the script, and without this process' paths
    return subprocess.Popen(
        [sys.executable, "-I", "-B", *flags, str(script), *map(str, arguments)],
        env={**os.environ, "COLUMNS": "120", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def heed_ctrl_c() -> None:
    """A shell lets what it runs in the background ignore Ctrl-C, and a process hands that on to those it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(script: Path, *arguments, **more) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = start(script, *arguments, **more)
    output, errors = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors
    return process.returncode, output, errors
