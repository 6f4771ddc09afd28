"""Train an IPAdapter-Instruct on your own pairs of images.

    python custom_nodes/ipadapter-instruct/cli.py train --data pairs --checkpoint models/checkpoints/sd15.safetensors \\
        --clip-vision models/clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors \\
        --initial-adapter models/ipadapter/ip-adapter-instruct-sd15.bin --max-train-steps 2000 \\
        --output models/ipadapter/mine.safetensors

Run it from ComfyUI's folder, and with `accelerate launch` in place of `python` on several devices. Run again after it
was stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from .. import ROOT

if TYPE_CHECKING:
    from .job import Job

REPORTS = {
    "logging_steps": (10, "the loss"),
    "checkpointing_steps": (500, "the state and the adapter"),
    "validation_steps": (500, "the validation loss and samples"),
}


def run(wanted: argparse.Namespace) -> int:
    """Return 0. Raises ValueError, OSError or ArithmeticError when nothing can be trained with what was given."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("comfy").setLevel(logging.WARNING)
    accelerator = module("accelerator").accelerate_processes(wanted.cpu)  # before ComfyUI looks for a device
    import_comfyui(Path(wanted.comfyui), wanted.cpu)
    from .job import run as train

    train(job_of(wanted), accelerator)
    return 0


def module(name: str) -> types.ModuleType:
    return importlib.import_module(f"...models.training.{name}", __package__)


def import_comfyui(folder: Path, on_cpu: bool) -> None:
    """Make `comfy` importable, as ComfyUI's main.py has it. Raises ValueError where there is none."""
    if not (folder / "comfy").is_dir():
        raise ValueError(f"ComfyUI was expected in {folder}, which has no folder comfy. Give its folder as --comfyui.")
    own_arguments, sys.argv = sys.argv, ["main.py", *(["--cpu"] if on_cpu else [])]
    sys.path.insert(0, str(folder))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  (reads sys.argv)

    sys.argv = own_arguments


def job_of(wanted: argparse.Namespace) -> Job:
    """Return the job that was asked for. Raises ValueError for numbers that make no sense."""
    from .job import Job

    arguments, initial = module("training_arguments").TrainingArguments, module("initial_checkpoint")
    output = Path(wanted.output)
    work = Path(wanted.work) if wanted.work else output.with_name(output.stem + "-training")
    return Job(
        data=Path(wanted.data),
        checkpoint=Path(wanted.checkpoint),
        clip_vision=Path(wanted.clip_vision),
        output=output,
        work=work,
        cache=Path(wanted.cache) if wanted.cache else work / "cache",
        arguments=arguments(**{part.name: getattr(wanted, part.name) for part in fields(arguments)}),
        text_encoders=tuple(map(Path, wanted.text_encoder)),
        vae=Path(wanted.vae) if wanted.vae else None,
        initial_adapter=Path(wanted.initial_adapter) if wanted.initial_adapter else None,
        shape=initial.Shape(**{part.name: getattr(wanted, part.name) for part in fields(initial.Shape)}),
        **{name: getattr(wanted, name) for name in ("fixed_instructions", "resolution", *REPORTS)},
    )


def add_arguments(made: argparse.ArgumentParser) -> None:
    files = made.add_argument_group("files")
    files.add_argument("--data", required=True, help="a folder with pairs.jsonl, or webdataset shards")
    files.add_argument("--checkpoint", required=True, help="the base model")
    files.add_argument("--clip-vision", required=True, help="the image encoder, ViT-H")
    files.add_argument("--text-encoder", action="append", default=[], help="where the checkpoint has none; repeatable")
    files.add_argument("--vae", help="where the checkpoint has none")
    files.add_argument(
        "--initial-adapter", help="an IPAdapter-Instruct or IP-Adapter Plus to start from; without, from scratch"
    )
    files.add_argument("--output", required=True, help="the adapter to write, .safetensors")
    files.add_argument("--work", help="folder for states, samples and resuming; by default beside the output")
    files.add_argument("--cache", help="folder for what is encoded, which several trainings may share")
    files.add_argument("--comfyui", default=str(ROOT.parent.parent), help="ComfyUI's folder")
    how = made.add_argument_group("training")
    how.add_argument("--fixed-instructions", action="store_true", help="each task in its first wording alone")
    how.add_argument("--max-train-steps", type=int, required=True, help="changes of the weights")
    how.add_argument("--batch-size", type=int, default=8, help="pairs in a pass, on each device")
    how.add_argument("--gradient-accumulation-steps", type=int, default=1, help="passes in a step")
    how.add_argument("--learning-rate", type=float, default=1e-4, help="the highest; it falls in a cosine")
    how.add_argument("--lr-warmup-steps", type=int, default=100, help="steps until it is reached")
    how.add_argument("--weight-decay", type=float, default=0.01, help="AdamW's")
    how.add_argument("--max-grad-norm", type=float, default=1.0, help="longer gradients are clipped")
    how.add_argument("--ema-decay", type=float, default=0.999, help="kept of the averaged weights at each step")
    for name, dropped in (("t", "text"), ("i", "image"), ("ti", "text and image")):
        how.add_argument(f"--{name}-drop-rate", type=float, default=0.05, help=f"share of examples without {dropped}")
    how.add_argument("--mixed-precision", choices=["no", "bf16"], default="no", help="no is float32")
    how.add_argument("--resolution", type=int, default=512, help="a side of the targets, in pixels")
    how.add_argument("--seed", type=int, default=0, help="of the order of pairs, of noise and of steps")
    shape = made.add_argument_group("shape of an adapter from scratch; 0 is what the published ones have")
    for name, default, what in (
        *(("tokens", 16, "for an image"), ("width", 0, "of the resampler"), ("heads", 0, "of its attention")),
        *(("blocks", 4, "in it"), ("image-ff", 4, "times the width, in an image's feed-forward")),
        ("text-ff", 2, "the same in those of the texts"),
    ):
        shape.add_argument(f"--{name}", type=int, default=default, help=what)
    reports = made.add_argument_group("reports, after every so many steps")
    for name, (default, what) in REPORTS.items():
        reports.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=what)
    made.add_argument("--cpu", action="store_true", help="without a graphics card")
