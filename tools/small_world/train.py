"""Train everything of the small world anew and store it: `make world`. Killed and run again, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train [--adapters joint colour ...] [--adapters-only]

Everything takes some hours of two cores. --adapters-only keeps the stored base model.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from comfyhost.install import exit_code
from comfyhost.places import ToolError
from comfyhost.standins import whole

from small_world.files import STORED
from small_world.train_adapter import JOINT, NAMES, adapter_path

AT_ONCE = 2
BASE = (("train_autoencoder",), ("train_base",), ("files", "--store"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="small_world.train", description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--adapters-only", action="store_true", help="keep the stored base model and autoencoder")
    wanted = parser.parse_args()

    def work() -> None:
        for step in () if wanted.adapters_only else BASE:
            run(*step)
        run("references")
        run("train_adapter", JOINT, "--reading-only")
        with ThreadPoolExecutor(AT_ONCE) as workers:
            list(workers.map(adapter, wanted.adapters))

    return exit_code(work)


def adapter(name: str) -> None:
    """Train an adapter and store it."""
    run("train_adapter", name)
    store(name)


def store(name: str) -> None:
    with whole(STORED / f"{name}.safetensors") as partial:
        shutil.copyfile(adapter_path(name), partial)


def run(module: str, *arguments: str) -> None:
    """A module of the small world in a process of its own."""
    command: Sequence[str] = (sys.executable, "-m", f"small_world.{module}", *arguments)
    if subprocess.run(command).returncode:
        raise ToolError(f"{' '.join(command[1:])} ended early; what it said is above. Run this again to go on.")


if __name__ == "__main__":
    sys.exit(main())
