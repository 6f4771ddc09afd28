"""Train the base model; run again after a kill, it goes on where it was.

PYTHONPATH=tools python -m drawn_world.base.train [steps]
"""

from __future__ import annotations

import random
import sys

import torch
from torch import Tensor

from drawn_world.autoencoder.components import components
from drawn_world.base.examples import Latents, examples
from drawn_world.base.model import new_base, velocity_loss
from drawn_world.in_process import DEVICE
from drawn_world.training import Training, TrainingArguments

STEPS, BATCH = 40_000, 32
ARGUMENTS = {"learning_rate": 1e-3, "lr_warmup_steps": 200, "weight_decay": 0.01, "ema_decay": 0.999}
UNSURE = 0.03  # how far a trained text encoder is from the codes
MIDDLE_LEVEL = 0.4  # of the logit-normal noise levels


def train(steps: int) -> None:
    base, latents = new_base(), Latents(components())

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        pictures, states = examples(latents, BATCH, random.Random(step))
        even = (torch.randperm(BATCH, generator=generator) + torch.rand(BATCH, generator=generator)) / BATCH
        sigmas = torch.sigmoid(torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)) + MIDDLE_LEVEL)
        noise = torch.randn(pictures.shape, generator=generator)
        states = states + UNSURE * torch.randn(states.shape, generator=generator)
        given = [tensor.to(DEVICE) for tensor in (pictures, states, noise, sigmas)]
        with torch.autocast(DEVICE, torch.bfloat16):
            return velocity_loss(base, *given)

    training = Training("base", base.diffusion_model, TrainingArguments(steps, **ARGUMENTS), (0.9, 0.95))
    base.to(DEVICE)
    training.run(loss_of)


def main() -> int:
    train(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
