"""Make everything of the drawn world anew and store it: `make world`. Killed and run again, it goes on where it was.

    PYTHONPATH=tools python -m drawn_world.train [--adapters joint style ...] [--adapters-only] [--device cuda]

Fetches the drawings by npm, and takes some hours of two cores. --adapters-only keeps what is stored of base model,
autoencoder and encoders. --share 0.01 does that part of all steps, to see that the whole way runs. Only the joint
adapter is stored.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comfyhost.environments import Environment
from comfyhost.install import exit_code
from comfyhost.places import TOOLS, ToolError
from comfyhost.standins import whole

from drawn_world.adapter import reading, writing
from drawn_world.autoencoder import train_decoder
from drawn_world.base import train as base
from drawn_world.encoders import train_picture, train_text
from drawn_world.files import adapter_name, stored_path
from drawn_world.pictures.rendering import ALL
from drawn_world.storage import world_folder

RENDERER = Environment("world", TOOLS / "requirements-world.txt")


def main() -> int:
    parser = argparse.ArgumentParser(prog="drawn_world.train", description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", nargs="+", choices=reading.NAMES, default=list(reading.NAMES))
    parser.add_argument("--adapters-only", action="store_true", help="keep what is stored of all other models")
    parser.add_argument("--share", type=float, default=1.0, help="of all steps")
    parser.add_argument("--device", default="cpu", help="as torch names it")
    wanted = parser.parse_args()
    os.environ["DRAWN_WORLD_DEVICE"] = wanted.device

    def steps(count: int) -> str:
        return str(max(1, round(count * wanted.share)))

    encoders = (
        ("encoders.train_text", steps(train_text.STEPS)),
        ("files", "--store", "text"),
        ("encoders.train_picture", steps(train_picture.STEPS)),
    )
    denoising = (("autoencoder.train_decoder", steps(train_decoder.STEPS)), ("base.train", steps(base.STEPS)))
    write = (("adapter.writing", steps(writing.STEPS)),)
    read = [("adapter.reading", name, steps(reading.STEPS[name])) for name in wanted.adapters]

    def work() -> None:
        if not (world_folder() / ALL).is_file():
            run("pictures.rendering", "--store", python=RENDERER.set_up(beside=Path(sys.executable)))
        if not wanted.adapters_only:
            at_once(encoders, denoising)
            run("files", "--store", "picture", "decoder", "base")
        at_once(write, read)
        run("adapter.joined", *wanted.adapters)
        if reading.JOINT in wanted.adapters:
            with whole(stored_path(reading.JOINT)) as partial:
                shutil.copyfile(world_folder() / adapter_name(reading.JOINT), partial)

    return exit_code(work)


def at_once(*rows) -> None:
    """Run rows of modules, each row in order."""
    with ThreadPoolExecutor() as workers:
        list(workers.map(lambda row: [run(*command) for command in row], rows))


def run(module: str, *arguments: str, python: str | Path = sys.executable) -> None:
    """Run a module of the drawn world in a process of its own. Raises ToolError when it fails."""
    command = (str(python), "-m", f"drawn_world.{module}", *arguments)
    if subprocess.run(command).returncode:
        raise ToolError(f"{' '.join(command[1:])} ended early; what it said is above. Run this again to go on.")


if __name__ == "__main__":
    sys.exit(main())
