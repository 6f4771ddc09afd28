"""Make everything of the drawn world anew and store it: `make world`. Killed and run again, it goes on where it was.

    PYTHONPATH=tools python -m drawn_world.train [--only attention resampler-joint ...] [--device cuda]

Fetches the drawings by npm, and takes some hours of two cores. --only trains what it names, and keeps what is stored
of all else. --share 0.01 does that part of all steps, to see that the whole way runs. Of the adapters only the joint
one is stored.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from comfyhost.environments import Environment
from comfyhost.install import exit_code
from comfyhost.places import TOOLS, ToolError
from torch import Tensor

from drawn_world.adapter import train_attention
from drawn_world.adapter import train_resampler as resampler
from drawn_world.in_process import DEVICE_VARIABLE
from drawn_world.models import autoencoder, base, train_image_encoder, train_text_encoder
from drawn_world.scenes.rendering import ALL
from drawn_world.storage import compact, save_tensors, stored_path, world_folder
from drawn_world.training import trained_state

RENDERER = Environment("world", TOOLS / "requirements-world.txt")
TRAININGS: Mapping[str, tuple[Callable[[int], None], int]] = {  # what trains each, and in how many steps
    "text_encoder": (train_text_encoder.train, train_text_encoder.STEPS),
    "image_encoder": (train_image_encoder.train, train_image_encoder.STEPS),
    "decoder": (autoencoder.train_decoder, autoencoder.STEPS),
    "base": (base.train, base.STEPS),
    "attention": (train_attention.train, train_attention.STEPS),
    **{f"{resampler.PREFIX}{name}": (partial(resampler.train, name), steps) for name, steps in resampler.STEPS.items()},
}
RESAMPLERS = tuple(name for name in TRAININGS if name.startswith(resampler.PREFIX))
# Rows of models that are trained at once, and then others; in each row one after the other.
ROWS = ((("text_encoder", "image_encoder"), ("decoder", "base")), (("attention",), RESAMPLERS))
TO_STORE: Mapping[str, Callable[[], Mapping[str, Tensor]]] = {
    "text_encoder": lambda: trained_state("text_encoder")["model"],
    "image_encoder": lambda: train_image_encoder.without_linear_maps(trained_state("image_encoder")["model"]),
    "decoder": lambda: autoencoder.beside_components(trained_state("decoder")["model"]),
    "base": lambda: trained_state("base")["ema"],
}


def train(name: str, steps: int) -> int:
    """Train one model in this process, and store it unless it is a part of an adapter; return the exit code."""

    def work() -> None:
        torch.set_num_threads(1)  # two trainings at once are faster than two threads for one
        torch.set_flush_denormal(True)
        TRAININGS[name][0](steps)
        if name in TO_STORE:
            save_tensors(compact(TO_STORE[name]()), stored_path(name), f"{name} of the drawn world")

    return exit_code(work)


def main() -> int:
    parser = argparse.ArgumentParser(prog="drawn_world.train", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=[*TRAININGS], help="train these and no other")
    parser.add_argument("--share", type=float, default=1.0, help="of all steps")
    parser.add_argument("--device", default="cpu", help="as torch names it")
    wanted = parser.parse_args()
    os.environ[DEVICE_VARIABLE] = wanted.device

    def work() -> None:
        if not (world_folder() / ALL).is_file():
            run(RENDERER.set_up(beside=Path(sys.executable)), "-m", "drawn_world.scenes.rendering")
        for rows in ROWS:
            at_once(wanted.share, *([name for name in row if name in wanted.only] for row in rows))
        for name in (name.removeprefix(resampler.PREFIX) for name in RESAMPLERS if name in wanted.only):
            train_attention.join(name)

    return exit_code(work)


def at_once(share: float, *rows: Sequence[str]) -> None:
    """Train the models of each row one after the other, each in a process of its own, and the rows at once."""
    code = "import sys; from drawn_world.train import train; sys.exit(train(sys.argv[1], int(sys.argv[2])))"

    def train_row(names: Sequence[str]) -> None:
        for name in names:
            run(sys.executable, "-c", code, name, str(max(1, round(TRAININGS[name][1] * share))))

    with ThreadPoolExecutor() as workers:
        list(workers.map(train_row, rows))


def run(*command: object) -> None:
    """Run a command. Raises ToolError when it fails."""
    if subprocess.run([*map(str, command)]).returncode:
        raise ToolError(f"{command[-2]} {command[-1]} ended early; what it said is above. Run this again to go on.")


if __name__ == "__main__":
    sys.exit(main())
