"""Train the decoder; run again after a kill, it goes on where it was.

PYTHONPATH=tools python -m drawn_world.autoencoder.train_decoder [steps]
"""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from torch import Tensor, nn

from drawn_world.autoencoder.components import PATCH, Components, components
from drawn_world.autoencoder.taesd import as_batch, new_taesd
from drawn_world.in_process import DEVICE
from drawn_world.pictures.drawing import draw, ground
from drawn_world.pictures.scenes import SIDE, random_scene
from drawn_world.training import Training, TrainingArguments

STEPS = 6000
ARGUMENTS = {"learning_rate": 1e-3, "lr_warmup_steps": 30, "weight_decay": 0.0, "ema_decay": 0.0}
BATCH, CROP = 16, 32
NOISE = 0.08  # on latents, since a denoiser's are never exact
EDGES = 0.5  # how much the error of differences between neighbours counts


def train(steps: int) -> None:
    found = components()
    decoder = new_taesd(found).taesd_decoder

    def loss_of(step: int) -> Tensor:
        pictures = crops(random.Random(step), BATCH)
        latents = found.encode(pictures)
        latents = latents + NOISE * torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        wanted = as_batch(torch.from_numpy(pictures).movedim(-1, 1).to(DEVICE))
        with torch.autocast(DEVICE, torch.bfloat16):
            made = decoder(as_batch(latents.to(DEVICE)))
        return difference(made.float(), wanted)

    tried = crops(random.Random("tried"), 128)
    Training("decoder", decoder, TrainingArguments(steps, **ARGUMENTS), (0.9, 0.99)).run(
        loss_of, lambda: likeness(decoder, found, tried), 250
    )


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """Small errors count and large ones more, and so do those of edges."""
    error = made - wanted
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return error.abs().mean() + 4 * error.square().mean() + EDGES * (across + down)


def crops(drawn: random.Random, count: int) -> np.ndarray:
    """Parts of fresh scenes with something of a drawing in them [count, 32, 32, 3], at whole patches."""
    found = []
    while len(found) < count:
        scene = random_scene(drawn)
        picture, bare = draw(scene), ground(scene.ground)
        for _ in range(2):
            left, top = (drawn.randrange(0, SIDE - CROP + 1, PATCH) for _ in range(2))
            part = np.s_[top : top + CROP, left : left + CROP]
            if np.abs(picture[part] - bare[part]).max(-1).mean() > 0.03:
                found.append(picture[part])
    return np.stack(found[:count])


@torch.no_grad()
def likeness(decoder: nn.Module, found: Components, pictures: np.ndarray) -> tuple[float, float]:
    """How near decoded pictures are to the real ones, in dB: by the decoder, and linearly."""
    latents = found.encode(pictures)
    device = next(decoder.parameters()).device
    decoded = decoder(as_batch(latents.to(device))).clamp(0, 1).movedim(1, -1).cpu().numpy()
    return decibels(decoded, pictures), decibels(found.decode(latents), pictures)


def decibels(made: np.ndarray, wanted: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(made - wanted).mean()))


def main() -> int:
    train(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
