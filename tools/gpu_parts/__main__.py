"""Runs one part of `gpu.py`: starts ComfyUI as the part needs it, in this process, and measures."""

import argparse
import importlib
from pathlib import Path
from timeit import default_timer

from comfyhost.in_process import import_comfyui, register

from gpu_parts.parts import NAMES, WAYS, Way


def main() -> None:
    begin = default_timer()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=NAMES)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--incumbent", type=Path)
    args = parser.parse_args()
    module, _, way = args.part.partition(".")
    start_comfyui(WAYS.get(way, Way()), args.rehearse)

    import torch

    from gpu_parts.run import Run

    run = Run(args.part, args.results, begin + args.seconds, args.rehearse, args.incumbent)
    with torch.inference_mode():  # as ComfyUI runs its nodes
        importlib.import_module(f"gpu_parts.{module}").measure(run)


def start_comfyui(way: Way, rehearse: bool) -> None:
    """Import ComfyUI as its main.py would with the way's arguments.

    Source of the dynamic VRAM: ComfyUI 0.33.0, main.py.
    """
    if way.dynamic:
        from comfy_aimdo import control

        control.init()  # before torch, as there
    import_comfyui(["main.py", *(["--cpu"] if rehearse else []), *way.arguments])
    register()
    if way.dynamic:
        import comfy.memory_management
        import comfy.model_management as mm
        import comfy.model_patcher

        if not control.init_devices(device.index for device in mm.get_all_torch_devices()):
            raise RuntimeError("comfy-aimdo found no device that it can manage.")
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True


if __name__ == "__main__":
    main()
