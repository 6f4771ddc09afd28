"""Stand-in model files: random weights in the shapes and places of the published files.

They show that everything loads, runs and costs what it should; pictures made with them are noise. SDXL's and SD3's
denoisers are narrow, for processors, and so are their adapters' attention layers; text encoders, the image encoder and
resamplers have the published sizes. Written into the cache folder's models/ when a family is asked for, once: a file
is written again when it is gone or its description changed.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from comfyhost.adapters import SDXL, SMALL, Plain, instruct_adapter, nested, plain_adapter
from comfyhost.checkpoints import MMDITS, UNETS, checkpoint, controlnet, cross_attention_widths, joint_block_widths
from comfyhost.encoders import vit_h
from comfyhost.in_process import pack_module
from comfyhost.install import only_one, say
from comfyhost.places import ToolError, cache_folder, cached_host, host
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
    return instruct_adapter(family, widths, **(SMALL if kind == family else {}))


def plain(sizes: Plain, family: str = "sd15") -> Blueprint:
    return plain_adapter(sizes, cross_attention_widths(UNETS[family]))


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
SMALL_MODELS = (
    *(stand_in for family in STAND_INS for stand_in in checkpoint_and_adapter(family, kind=family)),
    StandIn("ipadapter/ip-adapter_sd15.safetensors", lambda: plain(Plain("base"))),
    StandIn("ipadapter/ip-adapter-plus_sd15.safetensors", lambda: plain(Plain("plus", tokens=16, image=1280))),
    StandIn("ipadapter/ip-adapter-faceid_sd15.bin", lambda: plain(Plain("faceid", rank=8))),
    StandIn("ipadapter/ip-adapter_sdxl_vit-h.safetensors", lambda: plain(Plain("base", SDXL), "sdxl")),
    *(
        StandIn(f"controlnet/control_v11p_sd15_{kind}_fp16.safetensors", lambda: controlnet(UNETS["sd15"]))
        for kind in ("canny", "scribble", "openpose")
    ),
)
# What ComfyUI's newer nodes load: for its page, which only looks whether there are such files, they are empty.
NAMES_ALONE = (
    "background_removal/birefnet.safetensors",
    "detection/mediapipe_face_fp32.safetensors",
    "checkpoints/sam3.1_multiplex_fp16.safetensors",
)


def put_in_place(family: str = "sd15") -> None:
    """Put a family's stand-ins into the models folder in use, unless it is a user's own."""
    found = host()
    if found.users_own:
        say(f"COMFYUI_PATH is set: using the model files in {found.models}; no stand-ins are written.")
    elif family not in STAND_INS:
        raise ToolError(f"There are no stand-ins for a family {family}. Choose one of: {', '.join(STAND_INS)}.")
    else:
        write_stand_ins(found.models, STAND_INS[family])


def small_models() -> Path:
    """A models folder with files under published names that run shipped workflows in seconds on a processor.

    The image encoder, of which there is no small one, is a link.
    """
    ordinary, folder = cached_host().models, cache_folder() / "small-models"
    write_stand_ins(ordinary, (VIT_H,))
    write_stand_ins(folder, SMALL_MODELS)
    link_into(folder, ordinary / VIT_H.path)
    for path in map(folder.joinpath, NAMES_ALONE):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return folder


def link_into(folder: Path, encoder: Path) -> None:
    link = folder / VIT_H.path
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(encoder)


def published_files(family: str) -> bool:
    """True when the models folder in use has other files than stand-ins under a family's published names."""
    found = host()
    record = {} if found.users_own else read_record(found.models)

    def has_own(path: PurePosixPath) -> bool:
        there = (found.models / path.parent).rglob(f"{path.stem}.*")
        return any(one.suffix in SUFFIXES and one.relative_to(found.models).as_posix() not in record for one in there)

    return all(has_own(PurePosixPath(stand_in.path)) for stand_in in STAND_INS[family])


def write_stand_ins(models: Path, stand_ins: tuple[StandIn, ...]) -> None:
    """Write and record the files that are absent or described differently now. Safe to run twice at the same time."""
    with only_one(models / "stand-ins.lock"):
        (models / "README.txt").write_text(README, encoding="utf-8")
        for stand_in in stand_ins:
            path, parts, record = models / stand_in.path, stand_in.describe(), read_record(models)
            description = repr((list(parts.items()), stand_in.dtype, stand_in.seed))
            entry = {"description": hashlib.sha256(description.encode()).hexdigest()}
            if path.is_file() and record.get(stand_in.path) == {**entry, "bytes": path.stat().st_size}:
                continue
            say(f"Writing stand-in {stand_in.path}")
            write(path, parts, stand_in)
            record[stand_in.path] = {**entry, "bytes": path.stat().st_size}
            with whole(models / RECORD) as partial:
                partial.write_text(json.dumps(record, indent=1), encoding="utf-8")


def write(path: Path, parts: Blueprint, stand_in: StandIn) -> None:
    """Draw the weights and write safetensors, or for .bin a pickle nested as the published one."""
    path.parent.mkdir(exist_ok=True)
    tensors = draw(parts, stand_in.seed, stand_in.dtype)
    try:
        with whole(path) as partial:
            if path.suffix == ".bin":
                torch.save(nested(tensors), partial)
            else:
                save_file(tensors, partial, metadata=NOTE)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own for a full disk
        raise ToolError(
            f"The stand-in {path} could not be written ({error}). Free some disk space (it takes "
            f"{parts.size(stand_in.dtype) / 1e9:.1f} GB), or set IPADAPTER_INSTRUCT_CACHE to a folder "
            "elsewhere."
        ) from error


def read_record(models: Path) -> dict:
    """The record of the files written so far; empty when there is none or it is spoilt."""
    try:
        return json.loads((models / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_examples(base: Path) -> None:
    """Put the shipped workflows' inputs, a photograph and a made-up face, where a server with this base looks."""
    faces = base / "output" / "faces"
    for folder in (base / "input", faces):
        folder.mkdir(parents=True, exist_ok=True)
    write_photo(base / "input" / "example.png")
    embedding = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    save_file({"face_embedding": embedding}, faces / "face_00001_.face.safetensors")


def write_photo(path: Path) -> None:
    """Write a photograph of an astronaut, 512 x 512, from scikit-image (NASA, public domain)."""
    try:
        from skimage import data, io
    except ImportError as error:
        raise ToolError(
            f"The photograph comes with scikit-image, which is missing ({error}). "
            "Install it: python -m pip install scikit-image"
        ) from error
    io.imsave(path, data.astronaut(), check_contrast=False)
