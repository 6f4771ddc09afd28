"""The world's files: what is stored in the repository, and what ComfyUI loads, rebuilt from it.

    PYTHONPATH=tools python -m small_world.files            rebuild what is missing in the cache folder
    PYTHONPATH=tools python -m small_world.files --store    store what was trained last

Stored is what was trained, in half precision, and the autoencoder's components. Not stored is what follows from them or
from a seed: the checkpoint's columns for texts that CLIP-L does not reach, the autoencoder's encoder, the two encoders.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from small_world import autoencoder, base
from small_world.components import Components, components
from small_world.encoders import ENCODERS
from small_world.storage import save_tensors, saved_state, world_folder

STORED = Path(__file__).with_name("stored")
BASE = "base.safetensors"
CHECKPOINT = "small_world_sd3.safetensors"
NOTE = "base model and autoencoder for 64 x 64 pictures of drawn scenes"
DENOISER, DECODER, COMPONENTS = "denoiser.", "decoder.", "components."


def checkpoint_path() -> Path:
    """Where the checkpoint for ComfyUI is, once `checkpoint` has made it."""
    return world_folder() / CHECKPOINT


def checkpoint() -> Path:
    """The checkpoint, rebuilt unless it is there already, from what is stored."""
    source, target = STORED / BASE, checkpoint_path()
    if not (target.is_file() and note_of(target) == note_of(source)):
        save_tensors(whole_checkpoint(load_file(source)), target, note_of(source))
    return target


def store_base() -> int:
    """Store the averaged base and the autoencoder as they were trained: the base's step."""
    state = saved_state(world_folder() / "base.pt")
    decoder = world_folder() / "autoencoder.safetensors"
    if state is None or not decoder.is_file():
        sys.exit("error: nothing is trained yet. Run small_world.train_autoencoder, then small_world.train_base.")
    parts = trained_parts(state["average"], load_file(decoder), components())
    STORED.mkdir(exist_ok=True)
    save_tensors(parts, STORED / BASE, f"{NOTE}; {state['step']} steps")
    return state["step"]


def trained_parts(denoiser: dict[str, Tensor], taesd: dict[str, Tensor], found: Components) -> dict[str, Tensor]:
    """What is worth storing of a denoiser and a TAESD: fp16, but for the components."""
    prefix = "taesd_decoder."
    decoder = {name.removeprefix(prefix): weight for name, weight in taesd.items() if name.startswith(prefix)}
    return {
        **{DENOISER + name: weight.half() for name, weight in denoiser.items()},
        **{DECODER + name: weight.half() for name, weight in decoder.items()},
        COMPONENTS + "mean": found.mean,
        COMPONENTS + "axes": found.axes,
    }


def whole_checkpoint(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the checkpoint, fp16 but for single numbers, under ComfyUI's names."""
    taesd = autoencoder.new_taesd(Components(**part(stored, COMPONENTS)))
    taesd.taesd_decoder.load_state_dict(part(stored, DECODER))
    denoiser = base.widened({name: weight.float() for name, weight in part(stored, DENOISER).items()})
    return in_half({base.PREFIX: denoiser, autoencoder.PREFIX: taesd.state_dict()})


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def in_half(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parts' tensors under their prefixes, fp16; single numbers stay as they are."""
    named = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    return {name: tensor.to(torch.float16) if tensor.ndim else tensor for name, tensor in named.items()}


def note_of(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["small world"]


def main() -> int:
    if sys.argv[1:] == ["--store"]:
        print(f"{STORED / BASE}: the base after {store_base()} steps")
    for path in (checkpoint(), *(encoder.built() for encoder in ENCODERS.values())):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
