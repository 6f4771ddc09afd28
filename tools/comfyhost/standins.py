"""Stand-in model files: random weights in the shapes and places of the published files.

    PYTHONPATH=tools python -m comfyhost.standins [sd15] [sdxl] [sd3]

They show that everything loads, runs and costs what it should; pictures made with them are noise. SDXL's and SD3's
denoisers are narrow, for processors, and so are their adapters' attention layers; text encoders, the image encoder and
resamplers have the published sizes. Written into the cache folder's models/ when a family is asked for, once: a file
is written again when it is gone or its description changed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from comfyhost.adapters import instruct_adapter, nested
from comfyhost.checkpoints import MMDITS, UNETS, checkpoint
from comfyhost.denoisers import cross_attention_widths, joint_block_widths
from comfyhost.encoders import vit_h
from comfyhost.install import exit_code, only_one, say
from comfyhost.pack import pack_module
from comfyhost.places import ToolError, host
from comfyhost.weights import Blueprint, draw

NOTE = {"stand-in": "random weights, made for tests; not the published file"}
RECORD = "stand-ins.json"
whole = pack_module("models.files.atomic_write").whole
SUFFIXES = (".safetensors", ".bin")
README = """The model files listed in stand-ins.json are stand-ins: random weights in the shapes of the
published files, made for tests by the IPAdapter-Instruct node pack. Pictures made with them are noise.
They are rewritten when their description changes, so keep no files of your own under their names, and
don't hand them on.
"""


@dataclass(frozen=True)
class StandIn:
    """A file to write: where under models/, what it holds, and its number type."""

    path: str
    describe: Callable[[], Blueprint]
    dtype: torch.dtype = torch.float16
    seed: int = 0


def adapter_for(family: str, kind: str) -> Blueprint:
    """An adapter for the denoiser of a checkpoint kind; a small one for the least denoiser of the family."""
    widths = joint_block_widths(MMDITS[kind]) if kind in MMDITS else cross_attention_widths(UNETS[kind])
    return instruct_adapter(family, widths, small=kind == family)


VIT_H = StandIn("clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", vit_h)
CHECKPOINTS = {
    "sd15": "v1-5-pruned-emaonly-fp16.safetensors",
    "sdxl": "sd_xl_base_1.0.safetensors",
    "sd3": "sd3_medium_incl_clips.safetensors",
}


def checkpoint_and_adapter(family: str, kind: str, dtype: torch.dtype = torch.float16) -> tuple[StandIn, StandIn]:
    """A family's files under their published names: a checkpoint of this kind, and an adapter of this number type."""
    return (
        StandIn(f"checkpoints/{CHECKPOINTS[family]}", lambda: checkpoint(kind, clip_g=family != "sd15")),
        StandIn(f"ipadapter/ip-adapter-instruct-{family}.bin", lambda: adapter_for(family, kind), dtype),
    )


STAND_INS = {
    "sd15": (*checkpoint_and_adapter("sd15", "sd15real", torch.float32), VIT_H),
    "sdxl": (*checkpoint_and_adapter("sdxl", "sdxlfull", torch.float32), VIT_H),
    "sd3": (*checkpoint_and_adapter("sd3", "sd3deep", torch.float32), VIT_H),
}


def main() -> int:
    """Write the stand-ins that are missing; a user's own models folder is left alone."""
    return exit_code(lambda: [put_in_place(family) for family in sys.argv[1:] or ["sd15"]])


def put_in_place(family: str = "sd15") -> None:
    """Put a family's stand-ins into the models folder in use, unless it is a user's own."""
    found = host()
    if found.users_own:
        say(f"COMFYUI_PATH is set: using the model files in {found.models}; no stand-ins are written.")
    elif family not in STAND_INS:
        raise ToolError(f"There are no stand-ins for a family {family}. Choose one of: {', '.join(STAND_INS)}.")
    else:
        write_stand_ins(found.models, STAND_INS[family])


def published_files(family: str) -> bool:
    """True when the models folder in use has other files than stand-ins under a family's published names."""
    found = host()
    record = {} if found.users_own else read_record(found.models)
    return all(has_own(found.models, PurePosixPath(stand_in.path), record) for stand_in in STAND_INS[family])


def has_own(models: Path, path: PurePosixPath, record: dict) -> bool:
    """True when a file of that name, in either format, is there that is not in the record."""
    there = (models / path.parent).rglob(f"{path.stem}.*")
    return any(one.suffix in SUFFIXES and one.relative_to(models).as_posix() not in record for one in there)


def write_stand_ins(models: Path, stand_ins: tuple[StandIn, ...]) -> None:
    """Write the files that are absent or described differently now. Safe to run twice at the same time."""
    with only_one(models / "stand-ins.lock"):
        (models / "README.txt").write_text(README, encoding="utf-8")
        for stand_in in stand_ins:
            if not is_current(models, stand_in):
                say(f"Writing stand-in {stand_in.path}")
                write(models, stand_in)


def is_current(models: Path, stand_in: StandIn) -> bool:
    """True when the file is there as this description made it."""
    path = models / stand_in.path
    return path.is_file() and read_record(models).get(stand_in.path) == entry(stand_in, path.stat().st_size)


def write(models: Path, stand_in: StandIn) -> None:
    """Draw the weights, write them beside the final name, move them there, and record them."""
    path, parts = models / stand_in.path, stand_in.describe()
    path.parent.mkdir(exist_ok=True)
    try:
        with whole(path) as partial:
            save(draw(parts, stand_in.seed, stand_in.dtype), partial, path.suffix)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own for a full disk
        raise ToolError(
            f"The stand-in {path} could not be written ({error}). Free some disk space (it takes "
            f"{parts.size(stand_in.dtype) / 1e9:.1f} GB), or set IPADAPTER_INSTRUCT_CACHE to a folder "
            "elsewhere."
        ) from error
    record = {**read_record(models), stand_in.path: entry(stand_in, path.stat().st_size)}
    with whole(models / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")


def save(tensors: dict[str, torch.Tensor], path: Path, suffix: str) -> None:
    """Write safetensors, or for .bin a pickle nested as the published one."""
    if suffix == ".bin":
        torch.save(nested(tensors), path)
    else:
        save_file(tensors, path, metadata=NOTE)


def entry(stand_in: StandIn, size: int) -> dict[str, int | str]:
    """Return what the record holds for a file."""
    description = repr((list(stand_in.describe().items()), stand_in.dtype, stand_in.seed))
    return {"description": hashlib.sha256(description.encode()).hexdigest(), "bytes": size}


def read_record(models: Path) -> dict:
    """The record of the files written so far; empty when there is none or it is spoilt."""
    try:
        return json.loads((models / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
