"""Train the world's base model; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train_base [steps]

Scenes are encoded as they are needed: a shard more every few hundred steps.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from small_world.base import new_base, velocity_loss
from small_world.components import components
from small_world.encoders import ENCODERS
from small_world.learning_rate import warm_up_and_cosine
from small_world.pool import BATCH, Examples, Pool
from small_world.short_texts import TRANSFORMER_OPTIONS, ShortTexts
from small_world.storage import log_to, save_state, saved_state, world_folder

LOG = logging.getLogger(__name__)
STEPS = 24_000
RATE, WARM_UP, DECAY, CLIP = 1e-3, 300, 0.01, 1.0
DROPPED = 0.08  # of the captions, for classifier-free guidance
AVERAGED = 0.9995
SHARDS, STEPS_A_SHARD = 12, 300
LOG_EVERY, VALIDATE_EVERY, SAVE_SECONDS = 100, 500, 60
VALIDATION = 256  # examples


@dataclass(frozen=True)
class Learning:
    """What changes while the base learns."""

    base: nn.Module
    average: dict[str, Tensor]  # of the denoiser's weights: what is used in the end
    learner: torch.optim.Optimizer

    def save(self, path: Path, step: int) -> None:
        denoiser = self.base.diffusion_model.state_dict()
        save_state(path, step=step, denoiser=denoiser, average=self.average, learner=self.learner.state_dict())


def main() -> int:
    torch.set_num_threads(1)
    log_to(world_folder() / "base.log")
    pool = Pool(components(), ShortTexts(ENCODERS["text"].built()))
    train(pool, state_path(), int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
    return 0


def state_path() -> Path:
    return world_folder() / "base.pt"


def train(pool: Pool, path: Path, steps: int) -> None:
    learning, first = begun(path)
    losses, started, saved = [], time.monotonic(), time.monotonic()
    for step in range(first, steps):
        losses.append(learn(learning, pool, step, rate(step, steps)))
        done = step + 1
        if done % LOG_EVERY == 0:
            seconds = (time.monotonic() - started) / LOG_EVERY
            LOG.info("step %d loss %.4f, %.2f s a step", done, sum(losses) / len(losses), seconds)
            losses, started = [], time.monotonic()
        if done % VALIDATE_EVERY == 0:
            LOG.info("step %d validation loss %.4f", done, validation_loss(learning, pool))
        if done == steps or time.monotonic() - saved > SAVE_SECONDS:
            learning.save(path, done)
            saved = time.monotonic()


def begun(path: Path) -> tuple[Learning, int]:
    """The training as it was left, and its next step."""
    base = new_base()
    denoiser = base.diffusion_model
    learner = torch.optim.AdamW(denoiser.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=DECAY, fused=True)
    average = {name: weight.detach().clone() for name, weight in denoiser.state_dict().items()}
    before = saved_state(path)
    if before is None:
        return Learning(base, average, learner), 0
    denoiser.load_state_dict(before["denoiser"])
    learner.load_state_dict(before["learner"])
    return Learning(base, before["average"], learner), before["step"]


def rate(step: int, steps: int) -> float:
    return warm_up_and_cosine(step, steps, RATE, WARM_UP)


def learn(learning: Learning, pool: Pool, step: int, learning_rate: float) -> float:
    """One step; everything random in it comes from its number."""
    generator = torch.Generator().manual_seed(step)
    names = [f"train-{number}" for number in range(min(SHARDS, 1 + step // STEPS_A_SHARD))]
    examples = pool.examples(names, BATCH, DROPPED, generator)
    loss = mean_loss(learning.base, examples, generator)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"The base's loss at step {step} is no number. Its last good state is kept.")
    for group in learning.learner.param_groups:
        group["lr"] = learning_rate
    learning.learner.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(learning.base.diffusion_model.parameters(), CLIP)
    learning.learner.step()
    follow(learning, min(AVERAGED, (1 + step) / (10 + step)))
    return loss.item()


def mean_loss(base: nn.Module, examples: Examples, generator: torch.Generator) -> Tensor:
    """At noise levels spread over those that a sampler visits."""
    count = len(examples.latents)
    even = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    sigmas = base.model_sampling.sigma(even * base.model_sampling.multiplier)
    noise = torch.randn(examples.latents.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        return velocity_loss(base, examples.latents, examples.texts, noise, sigmas, TRANSFORMER_OPTIONS).mean()


@torch.no_grad()
def follow(learning: Learning, share: float) -> None:
    """Move the average towards the weights."""
    weights = learning.base.diffusion_model.state_dict()
    averages = list(learning.average.values())
    torch._foreach_lerp_(averages, [weights[name] for name in learning.average], 1 - share)


@torch.no_grad()
def validation_loss(learning: Learning, pool: Pool) -> float:
    """The average weights' loss on scenes that are never trained on, with noise that is always the same."""
    generator = torch.Generator().manual_seed(-1)
    examples = [pool.examples(["validation"], BATCH, 0.0, generator) for _ in range(VALIDATION // BATCH)]
    denoiser = learning.base.diffusion_model
    weights = {name: weight.clone() for name, weight in denoiser.state_dict().items()}
    denoiser.load_state_dict(learning.average)
    losses = [mean_loss(learning.base, batch, generator).item() for batch in examples]
    denoiser.load_state_dict(weights)
    return sum(losses) / len(losses)


if __name__ == "__main__":
    sys.exit(main())
