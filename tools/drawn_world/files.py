"""The world's files: what is stored in the repository, and what ComfyUI loads, rebuilt from it.

    PYTHONPATH=tools python -m drawn_world.files                    rebuild what is missing in the cache folder
    PYTHONPATH=tools python -m drawn_world.files --store NAME...    store what was trained last
    PYTHONPATH=tools python -m drawn_world.files --resume NAME...   go on training from what is stored, from step 0

Stored is what was trained, see `storage.compact`. Not stored is what follows from it: the autoencoder's encoder, the
checkpoint's columns for texts that the text encoder does not reach, the zeros of both encoders.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from comfyhost.install import only_one
from comfyhost.places import Host, host
from comfyhost.server import link
from safetensors.torch import load_file
from torch import Tensor

from drawn_world.autoencoder import taesd
from drawn_world.autoencoder.components import Components, components
from drawn_world.base import model
from drawn_world.encoders import picture_wide, text
from drawn_world.storage import STORED, compact, note_of, restored, save_state, save_tensors, world_folder
from drawn_world.training import trained_state

ROOMS = [Path(__file__).with_name(room) for room in ("autoencoder", "base", "encoders")]  # that say what files hold
CHECKPOINT, TEXT_ENCODER, IMAGE_ENCODER = (f"drawn_world_{what}.safetensors" for what in ("sd3", "clip_l", "vit_h"))


def trained_decoder() -> dict[str, Tensor]:
    found = components()
    linear = {"components.mean": found.mean, "components.axes": found.axes}
    return {**linear, **trained_state("decoder")["model"]}


def trained_picture() -> dict[str, Tensor]:
    """Without what is told of drawings that are not stored."""
    parts = trained_state("picture")["model"]
    return {name: part for name, part in parts.items() if not name.startswith(("thing.", "here."))}


TRAINED: Mapping[str, Callable[[], dict[str, Tensor]]] = {
    "text": lambda: trained_state("text")["model"],
    "picture": trained_picture,
    "decoder": trained_decoder,
    "base": lambda: trained_state("base")["ema"],
}


def stored_path(name: str) -> Path:
    return STORED / f"{name}.safetensors"


def stored(name: str) -> dict[str, Tensor]:
    return restored(load_file(stored_path(name)))


def store(name: str, note: str) -> Path:
    STORED.mkdir(exist_ok=True)
    save_tensors(compact(TRAINED[name]()), stored_path(name), note)
    return stored_path(name)


def resume(name: str) -> None:
    """Write the state of a training that begins with what is stored."""
    parts = {part: weight for part, weight in stored(name).items() if not part.startswith("components.")}
    save_state(world_folder() / f"{name}.pt", step=0, model=parts)


def split_decoder(parts: Mapping[str, Tensor]) -> tuple[Components, dict[str, Tensor]]:
    """The components, and the decoder's weights."""
    linear = Components(parts["components.mean"], parts["components.axes"])
    return linear, {name: weight for name, weight in parts.items() if not name.startswith("components.")}


def whole_checkpoint(denoiser: dict[str, Tensor], autoencoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the checkpoint, fp16 but for single numbers, under ComfyUI's names."""
    found, decoder = split_decoder(autoencoder)
    vae = taesd.new_taesd(found)
    vae.taesd_decoder.load_state_dict(decoder)
    parts = {model.PREFIX: model.widened(denoiser), taesd.PREFIX: vae.state_dict()}
    named = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    return {name: tensor.half() if tensor.ndim else tensor for name, tensor in named.items()}


def encoder_of(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder without the linear map that was trained beside it."""
    return {name.removeprefix(text.BESIDE): part for name, part in parts.items() if name.startswith(text.BESIDE)}


def build(name: str) -> Path:
    """One of the three files in the cache folder, unless it is there, made of what is stored by today's code."""
    path, made_of = world_folder() / name, SOURCES[name]
    sources = [*map(stored_path, made_of), *(path for room in ROOMS for path in sorted(room.glob("*.py")))]
    note = f"{', '.join(made_of)} {hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()}"
    if note_of(path) != note:
        save_tensors(WHOLE[name](*map(stored, made_of)), path, note)
    return path


SOURCES: Mapping[str, tuple[str, ...]] = {
    CHECKPOINT: ("base", "decoder"),
    TEXT_ENCODER: ("text",),
    IMAGE_ENCODER: ("picture",),
}
WHOLE: Mapping[str, Callable[..., dict[str, Tensor]]] = {
    CHECKPOINT: whole_checkpoint,
    TEXT_ENCODER: lambda parts: text.wide_weights(encoder_of(parts)),
    IMAGE_ENCODER: lambda parts: {
        name: part.half() for name, part in picture_wide.wide_weights(encoder_of(parts)).items()
    },
}


def adapter_name(name: str) -> str:
    """An adapter as ComfyUI lists it."""
    return f"drawn_world_{name}.safetensors"


def adapter_file(name: str) -> Path:
    """An adapter that was trained here, or the stored one."""
    trained = world_folder() / adapter_name(name)
    return trained if trained.is_file() else stored_path(name)


def link_all(models: Path, files: Mapping[str, Path]) -> None:
    """Put files into a models folder, each under its kind and name."""
    for name, source in files.items():
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        link(models / name, source)


def comfyui_of_the_world(adapters: Sequence[str] = ("joint",)) -> Host:
    """The ComfyUI in use with the world's models folder, in which what was missing is rebuilt from what is stored."""
    models, kinds = world_folder() / "models", {CHECKPOINT: "checkpoints", TEXT_ENCODER: "text_encoders"}
    with only_one(world_folder() / "models.lock"):
        wanted = {f"{kinds.get(name, 'clip_vision')}/{name}": build(name) for name in SOURCES}
        wanted |= {f"ipadapter/{adapter_name(name)}": adapter_file(name) for name in adapters}
        link_all(models, wanted)
    return replace(host(), models=models)


def main() -> int:
    if sys.argv[1:2] == ["--store"]:
        for name in sys.argv[2:]:
            path = store(name, f"{name} of the drawn world")
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
        return 0
    if sys.argv[1:2] == ["--resume"]:
        for name in sys.argv[2:]:
            resume(name)
        return 0
    for name in SOURCES:
        if all(stored_path(part).is_file() for part in SOURCES[name]):
            print(build(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
