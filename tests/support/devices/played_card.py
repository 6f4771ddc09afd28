"""A part of `make gpu` where the played device is ComfyUI's graphics card, so that what is left on the CPU raises.

Run it in a process of its own, with tools/ and tests/ on the module path: `python -m support.devices.played_card PART
RESULTS`.
"""

import importlib
import sys
from pathlib import Path
from timeit import default_timer

import torch
from gpu_parts.__main__ import start_comfyui
from gpu_parts.parts import Way
from gpu_parts.run import Run

from support.devices.played_device import PLAYED

SECONDS = 600


def play_the_card() -> None:
    import comfy.model_management as mm

    cpu = torch.device("cpu")
    for name in ("get_free_memory", "get_total_memory"):
        of_cpu = getattr(mm, name)
        setattr(mm, name, lambda device=None, *args, of_cpu=of_cpu, **kwargs: of_cpu(cpu, *args, **kwargs))
    for name in ("get_torch_device", "text_encoder_device"):
        setattr(mm, name, lambda *args: PLAYED)


if __name__ == "__main__":
    part, results = sys.argv[1:]
    start_comfyui(Way(), rehearse=True)
    play_the_card()
    with torch.inference_mode():
        run = Run(part, Path(results), default_timer() + SECONDS, rehearse=True)
        importlib.import_module(f"gpu_parts.{part}").measure(run)
