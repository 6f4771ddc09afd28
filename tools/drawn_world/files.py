"""The files that ComfyUI loads, rebuilt in the cache folder from what is stored in the repository.

What was trained is stored, made small by `storage.compact`. What follows from it is not stored: the autoencoder's
encoder, the checkpoint's columns for texts that the text encoder does not reach, the zeros of both encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from comfyhost.install import only_one
from comfyhost.places import Host, ToolError, host
from comfyhost.server import link
from torch import Tensor

from drawn_world.models import autoencoder, base, text_encoder, wide_image_encoder
from drawn_world.models.narrow import encoder_of
from drawn_world.storage import hash_of, metadata_of, note_of, save_tensors, stored, stored_path, world_folder
from drawn_world.training import BUILT_ON

JOINT = "joint"  # the adapter for all tasks
CODE = Path(__file__).with_name("models")  # says what the files hold
CHECKPOINT, TEXT_ENCODER, IMAGE_ENCODER = (f"drawn_world_{name}.safetensors" for name in ("sd3", "clip_l", "vit_h"))
FOLDERS = {CHECKPOINT: "checkpoints", TEXT_ENCODER: "text_encoders", IMAGE_ENCODER: "clip_vision"}
SOURCES: Mapping[str, tuple[str, ...]] = {
    CHECKPOINT: ("base", "decoder"),
    TEXT_ENCODER: ("text_encoder",),
    IMAGE_ENCODER: ("image_encoder",),
}


def whole_checkpoint(denoiser: Mapping[str, Tensor], vae: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the checkpoint under ComfyUI's names."""
    parts = {base.PREFIX: base.widened(denoiser), autoencoder.PREFIX: autoencoder.whole(vae)}
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}


WHOLE: Mapping[str, Callable[..., dict[str, Tensor]]] = {
    CHECKPOINT: whole_checkpoint,
    TEXT_ENCODER: lambda parts: text_encoder.wide_weights(encoder_of(parts)),
    IMAGE_ENCODER: lambda parts: wide_image_encoder.wide_weights(encoder_of(parts)),
}


def build(name: str) -> Path:
    """One of the three files in the cache folder, fp16, made of what is stored by today's code unless it is there."""
    path, made_of = world_folder() / name, SOURCES[name]
    sources = [*map(stored_path, made_of), *sorted(CODE.glob("*.py"))]
    note = f"{', '.join(made_of)} {hash_of(sources)}"
    if note_of(path) != note:
        tensors = WHOLE[name](*map(stored, made_of))
        halves = {name: tensor.half() if tensor.ndim else tensor for name, tensor in tensors.items()}
        save_tensors(halves, path, note)
    return path


def adapter_name(name: str) -> str:
    """An adapter as ComfyUI lists it."""
    return f"drawn_world_{name}.safetensors"


def adapter_path(name: str) -> Path:
    return stored_path(name) if name == JOINT else world_folder() / adapter_name(name)


def adapter_note() -> str:
    """The words in an adapter's metadata that tell with which stored models it was trained."""
    models = (*BUILT_ON["resampler"], *BUILT_ON["attention"])
    return f"in the drawn world {hash_of(map(stored_path, models))[:16]}"


def adapter_file(name: str) -> Path:
    """The joint adapter, which is stored, or another that was trained here.

    Raises ToolError for one that is not there, or that was trained with other models than are stored.
    """
    path = adapter_path(name)
    if adapter_note() not in metadata_of(path).get("trained", ""):
        found = "was trained with other models than are stored" if path.is_file() else "is not there"
        raise ToolError(f"{path} {found}. Train it: make world WORLD_ARGS='--only attention resampler-{name}'.")
    return path


def link_all(models: Path, files: Mapping[str, Path]) -> None:
    """Put files into a models folder, each under its kind and name."""
    for name, source in files.items():
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        link(models / name, source)


def comfyui_of_the_world(adapters: Sequence[str] = (JOINT,)) -> Host:
    """The ComfyUI in use with the world's models folder, in which what was missing is rebuilt from what is stored."""
    models = world_folder() / "models"
    with only_one(world_folder() / "models.lock"):
        wanted = {f"{folder}/{name}": build(name) for name, folder in FOLDERS.items()}
        wanted |= {f"ipadapter/{adapter_name(name)}": adapter_file(name) for name in adapters}
        link_all(models, wanted)
    return replace(host(), models=models)
