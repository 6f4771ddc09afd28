"""Train the autoencoder's decoder; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train_autoencoder [steps]

The encoder is made, not trained, so the base does not have to wait for this.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from small_world.autoencoder import as_batch, new_taesd
from small_world.components import COLOURED, PATCH, Components, components
from small_world.drawing import CENTRES, SIDE, draw
from small_world.learning_rate import warm_up_and_cosine
from small_world.scenes import scene_to_learn
from small_world.storage import log_to, save_state, save_tensors, saved_state, world_folder

LOG = logging.getLogger(__name__)
STEPS, RATE, WARM_UP, CLIP = 4000, 1e-3, 50, 1.0
BATCH = 8
CROP = 32  # pixels; a step on crops costs a quarter of one on whole pictures, and things are the same
CROPS_A_SCENE = 2
PAIRS = 0.3
THINGS_COUNT = 3.0  # how often a pixel of a thing counts; things are small
NOISE = 0.07  # in the latents: a denoiser leaves them a little wrong
LOG_EVERY = 100


def main() -> int:
    torch.set_num_threads(1)
    log_to(world_folder() / "autoencoder.log")
    train(state_path(), int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
    return 0


def state_path() -> Path:
    return world_folder() / "autoencoder.pt"


def train(path: Path, steps: int) -> None:
    found = components()
    taesd = new_taesd(found)
    decoder = taesd.taesd_decoder
    learner = torch.optim.AdamW(decoder.parameters(), lr=RATE, weight_decay=0.0)
    before = saved_state(path)
    if before:
        decoder.load_state_dict(before["decoder"])
        learner.load_state_dict(before["learner"])
    run(decoder, learner, found, range(before["step"] if before else 0, steps), path)
    save_tensors(taesd.state_dict(), world_folder() / "autoencoder.safetensors", f"autoencoder after {steps} steps")


def run(decoder: nn.Module, learner: torch.optim.Optimizer, found: Components, steps: range, path: Path) -> None:
    losses, started = [], time.monotonic()
    for step in steps:
        learner.param_groups[0]["lr"] = rate(step, steps.stop)
        losses.append(learn(decoder, learner, found, step))
        if (step + 1) % LOG_EVERY == 0:
            save_state(path, step=step + 1, decoder=decoder.state_dict(), learner=learner.state_dict())
            seconds = (time.monotonic() - started) / len(losses)
            LOG.info("autoencoder step %d loss %.4f, %.2f s a step", step + 1, np.mean(losses), seconds)
            losses, started = [], time.monotonic()


def rate(step: int, steps: int) -> float:
    return warm_up_and_cosine(step, steps, RATE, WARM_UP)


def learn(decoder: nn.Module, learner: torch.optim.Optimizer, found: Components, step: int) -> float:
    """One step; everything random in it comes from its number.

    The loss counts large errors and small ones, so that edges become sharp.
    """
    generator = torch.Generator().manual_seed(step)
    pictures = crops(random.Random(step))
    latents = found.encode(pictures)
    noisy = latents + NOISE * torch.randn(latents.shape, generator=generator)
    wanted = as_batch(torch.from_numpy(np.stack(pictures)).movedim(-1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        error = decoder(as_batch(noisy)).float() - wanted
    loss = ((error.abs() + 4 * error.square()) * importance(wanted)).mean()
    if not torch.isfinite(loss):
        raise FloatingPointError("The decoder's loss is no number. Its last good state is kept; lower the rate.")
    learner.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(decoder.parameters(), CLIP)
    learner.step()
    return loss.item()


def importance(pictures: Tensor) -> Tensor:
    """How much each pixel counts [B, 1, H, W]."""
    coloured = pictures.amax(1, keepdim=True) - pictures.amin(1, keepdim=True) > COLOURED
    return 1 + (THINGS_COUNT - 1) * coloured.float()


def crops(drawn: random.Random) -> list[np.ndarray]:
    """Parts of fresh scenes around a thing [32, 32, 3], at whole patches."""
    found = []
    for _ in range(BATCH // CROPS_A_SCENE):
        scene = scene_to_learn(drawn, PAIRS)
        picture = draw(scene, drawn)
        for _ in range(CROPS_A_SCENE):
            x, y = CENTRES[drawn.choice(scene.things).place]
            left, top = (drawn.choice(starts_before(along)) for along in (x, y))
            found.append(picture[top : top + CROP, left : left + CROP])
    return found


def starts_before(centre: float) -> list[int]:
    """Where a crop may start, along one side, to have a thing's centre well inside."""
    return [start for start in range(0, SIDE - CROP + 1, PATCH) if start + 4 <= centre <= start + CROP - 4]


if __name__ == "__main__":
    sys.exit(main())
