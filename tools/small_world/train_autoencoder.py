"""Train the world's autoencoder; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train_autoencoder joint [steps]      encoder and decoder
    PYTHONPATH=tools python -m small_world.train_autoencoder decoder [steps]    the decoder alone, after `joint`

The base learns on what the encoder makes, so the encoder is done first and stays as it is.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from small_world.autoencoder import Autoencoder, folded
from small_world.drawing import CENTRES, SIDE, draw
from small_world.latents import as_batch
from small_world.scenes import random_scene
from small_world.storage import log_to, save_state, save_tensors, saved_state, world_folder

LOG = logging.getLogger(__name__)
BATCH = 8
CROP = 32  # pixels; a step on crops costs a quarter of one on whole pictures, and things are the same
CROPS_A_SCENE = 2
PAIRS = 0.3
COLOURED, THINGS_COUNT = 0.15, 5.0  # a pixel of a thing, by its strength of colour, and how often it counts
CLIP = 1.0
WARM_UP = 30
SAVE_EVERY = 100
STATISTICS_FROM = 256  # scenes


@dataclass(frozen=True)
class Stage:
    """A part of the training: how many steps, and the highest rate of learning."""

    steps: int
    rate: float
    learns_encoder: bool


STAGES = {"joint": Stage(4200, 1e-3, True), "decoder": Stage(3000, 5e-4, False)}


def main() -> int:
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in STAGES:
        sys.exit(f"error: say which stage to train: {' or '.join(STAGES)}.")
    log_to(world_folder() / "autoencoder.log")
    train(name, STAGES[name], int(sys.argv[2]) if len(sys.argv) > 2 else STAGES[name].steps)
    return 0


def train(name: str, stage: Stage, steps: int) -> None:
    autoencoder, path = start(name), state_path(name)
    learner = torch.optim.AdamW(trained_parameters(autoencoder, stage), lr=stage.rate, weight_decay=0.0)
    before = saved_state(path) or {"step": 0}
    if before["step"]:
        autoencoder.load_state_dict(before["autoencoder"])
        learner.load_state_dict(before["learner"])
    run(autoencoder, learner, stage, range(before["step"], steps), path)
    finish(autoencoder, stage, path, steps)


def start(name: str) -> Autoencoder:
    """First weights: drawn, or for the decoder's stage those of the joint one."""
    torch.manual_seed(0)
    autoencoder = Autoencoder().to(memory_format=torch.channels_last)
    if name != "joint":
        before = saved_state(state_path("joint"))
        if before is None:
            sys.exit("error: there is no encoder yet. Train the stage `joint` first.")
        autoencoder.load_state_dict(before["autoencoder"])
    return autoencoder


def state_path(name: str) -> Path:
    return world_folder() / f"autoencoder-{name}.pt"


def trained_parameters(autoencoder: Autoencoder, stage: Stage) -> list[nn.Parameter]:
    parts = autoencoder.taesd if stage.learns_encoder else autoencoder.taesd.taesd_decoder
    autoencoder.requires_grad_(False)
    parts.requires_grad_(True)
    return [p for p in parts.parameters() if p.ndim]  # not vae_scale and vae_shift


def run(autoencoder: Autoencoder, learner: torch.optim.Optimizer, stage: Stage, steps: range, path: Path) -> None:
    autoencoder.train(stage.learns_encoder)
    started, losses = time.monotonic(), []
    for step in steps:
        for group in learner.param_groups:
            group["lr"] = rate(step, steps.stop, stage.rate)
        losses.append(learn(autoencoder, learner, crops(random.Random(f"{path.stem} {step}"))))
        if (step + 1) % SAVE_EVERY == 0:
            save_state(path, step=step + 1, autoencoder=autoencoder.state_dict(), learner=learner.state_dict())
            seconds = (time.monotonic() - started) / len(losses)
            LOG.info("%s step %d loss %.4f, %.2f s a step", path.stem, step + 1, np.mean(losses[-100:]), seconds)


def rate(step: int, steps: int, highest: float) -> float:
    """Warm-up, then a cosine down to a fiftieth."""
    if step < WARM_UP:
        return highest * (step + 1) / WARM_UP
    return highest * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def learn(autoencoder: Autoencoder, learner: torch.optim.Optimizer, pictures: Tensor) -> float:
    """One step; the loss counts large errors and small ones, so that edges become sharp."""
    with torch.autocast("cpu", torch.bfloat16):
        error = autoencoder(pictures) - pictures
    loss = ((error.abs() + 4 * error.square()) * importance(pictures)).mean()
    if not torch.isfinite(loss):
        raise FloatingPointError("The autoencoder's loss is no number. Its last good state is kept; lower the rate.")
    learner.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(learner.param_groups[0]["params"], CLIP)
    learner.step()
    return loss.item()


def importance(pictures: Tensor) -> Tensor:
    """How much each pixel counts [B, 1, H, W]: things are small, and without this all become orange or cyan at first."""
    coloured = pictures.amax(1, keepdim=True) - pictures.amin(1, keepdim=True) > COLOURED
    return 1 + (THINGS_COUNT - 1) * coloured.float()


def crops(drawn: random.Random) -> Tensor:
    """A batch of parts of fresh scenes around a thing [8, 3, 32, 32], at whole latents."""
    found = []
    for _ in range(BATCH // CROPS_A_SCENE):
        scene = random_scene(drawn, PAIRS)
        picture = draw(scene, drawn)
        for _ in range(CROPS_A_SCENE):
            x, y = CENTRES[drawn.choice(scene.things).place]
            left, top = (drawn.choice(starts_before(along)) for along in (x, y))
            found.append(picture[top : top + CROP, left : left + CROP])
    return as_batch(found)


def starts_before(centre: float) -> list[int]:
    """Where a crop may start, along one side, to have a thing's centre well inside."""
    return [start for start in range(0, SIDE - CROP + 1, 8) if start + 4 <= centre <= start + CROP - 4]


def finish(autoencoder: Autoencoder, stage: Stage, path: Path, steps: int) -> None:
    """Leave the file that ComfyUI loads, and after the encoder's stage also its exact statistics."""
    if stage.learns_encoder:
        measure_statistics(autoencoder)
        save_state(path, step=steps, autoencoder=autoencoder.state_dict(), learner={})
    save_tensors(folded(autoencoder), world_folder() / "autoencoder.safetensors", "autoencoder, float32")
    LOG.info("%s finished", path.stem)


@torch.no_grad()
def measure_statistics(autoencoder: Autoencoder) -> None:
    """Each channel's mean and variance on whole scenes, instead of running ones on crops."""
    drawn = random.Random("statistics")
    batches = [[draw(random_scene(drawn, 0.15), drawn) for _ in range(32)] for _ in range(STATISTICS_FROM // 32)]
    autoencoder.eval()
    latents = torch.cat([autoencoder.taesd.taesd_encoder(as_batch(batch)) for batch in batches])
    autoencoder.normalise.running_var.copy_(latents.var((0, 2, 3)))
    autoencoder.normalise.running_mean.copy_(latents.mean((0, 2, 3)))


if __name__ == "__main__":
    sys.exit(main())
