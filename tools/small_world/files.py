"""The world's files as ComfyUI loads them, and writing the checkpoint from what was trained.

PYTHONPATH=tools python -m small_world.files
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from small_world import autoencoder, base
from small_world.encoders import ENCODERS
from small_world.storage import save_tensors, saved_state, world_folder

CHECKPOINT = "small_world_sd3.safetensors"
NOTE = "base model and autoencoder for 64 x 64 pictures of drawn scenes"


def checkpoint_path() -> Path:
    return world_folder() / CHECKPOINT


def write_checkpoint() -> int:
    """Write the checkpoint from the averaged base and the autoencoder as they are now: the base's step."""
    state = saved_state(world_folder() / "base.pt")
    decoder = world_folder() / "autoencoder.safetensors"
    if state is None or not decoder.is_file():
        sys.exit("error: nothing is trained yet. Run small_world.train_autoencoder, then small_world.train_base.")
    parts = {base.PREFIX: base.widened(state["average"]), autoencoder.PREFIX: load_file(decoder)}
    save_tensors(in_half(parts), checkpoint_path(), f"{NOTE}; {state['step']} steps")
    return state["step"]


def in_half(parts: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parts' tensors under their prefixes, fp16; single numbers stay as they are."""
    named = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    return {name: tensor.to(torch.float16) if tensor.ndim else tensor for name, tensor in named.items()}


def main() -> int:
    step = write_checkpoint()
    path = checkpoint_path()
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, the base after {step} steps")
    print(ENCODERS["text"].built())
    return 0


if __name__ == "__main__":
    sys.exit(main())
