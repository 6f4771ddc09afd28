"""The loop in which all of the world's models are trained; after a kill it goes on where it was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from drawn_world.in_process import DEVICE
from drawn_world.storage import log_to, save_state, saved_state, world_folder

LOG = logging.getLogger(__name__)
LAST = 0.01  # of the highest rate
CLIP = 1.0
LOG_EVERY, SAVE_SECONDS = 50, 60


@dataclass(frozen=True)
class Plan:
    """How long and how fast a model learns. averaged: how slowly an average follows its weights, if there is one."""

    name: str
    steps: int
    rate: float
    warm_up: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.0
    averaged: float | None = None
    device: str = DEVICE


@dataclass
class Training:
    """A model while it learns. `average` is empty unless the plan has one."""

    plan: Plan
    model: nn.Module
    step: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        log_to(world_folder() / f"{self.plan.name}.log")
        self.model.to(self.plan.device)
        self.learner = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.plan.rate,
            betas=self.plan.betas,
            weight_decay=self.plan.decay,
            fused=True,
        )
        if before := saved_state(self.path):
            self.model.load_state_dict(before["model"], strict="learner" in before)
            self.step, self.average = before["step"], before.get("average", {})
            if "learner" in before:  # else it goes on from what was stored, see `files`
                self.learner.load_state_dict(before["learner"])
        if self.plan.averaged and not self.average:
            self.average = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}

    @property
    def path(self):
        return world_folder() / f"{self.plan.name}.pt"

    def run(self, loss_of: Callable[[int], Tensor], tell: Callable[[], Any] | None = None, tell_every: int = 0) -> None:
        """Learn until the plan's last step. loss_of: a step's loss; everything random in it comes from the number."""
        losses, started, worked, saved = [], time.monotonic(), time.process_time(), time.monotonic()
        while self.step < self.plan.steps:
            losses.append(self.learn(loss_of(self.step)))
            if self.step % LOG_EVERY == 0:
                times = ((time.monotonic() - started) / len(losses), (time.process_time() - worked) / len(losses))
                loss = sum(losses) / len(losses)
                LOG.info("step %d loss %.4f, %.3f s a step, %.3f of the core", self.step, loss, *times)
                losses, started, worked = [], time.monotonic(), time.process_time()
            if self.step == self.plan.steps or time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
            if tell and (self.step == self.plan.steps or self.step % tell_every == 0):
                LOG.info("step %d: %s", self.step, tell())

    def learn(self, loss: Tensor) -> float:
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss at step {self.step} is no number. The last good state is kept.")
        for group in self.learner.param_groups:
            group["lr"] = self.rate()
        self.learner.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.learner.step()
        if self.average:
            self.follow()
        self.step += 1
        return loss.item()

    def rate(self) -> float:
        """Up in a straight line, then down in half a cosine to a hundredth."""
        if self.step < self.plan.warm_up:
            return self.plan.rate * (self.step + 1) / self.plan.warm_up
        done = min(1.0, self.step / self.plan.steps)
        return self.plan.rate * (LAST + (1 - LAST) * (0.5 + 0.5 * math.cos(math.pi * done)))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the weights; faster at first."""
        share = min(self.plan.averaged or 0.0, (1 + self.step) / (10 + self.step))
        weights = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [weights[name] for name in self.average], 1 - share)

    def save(self) -> None:
        parts: Mapping[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "learner": self.learner.state_dict(),
        }
        save_state(self.path, **parts)


def trained_state(name: str) -> dict[str, Any]:
    """What a training wrote last."""
    found = saved_state(world_folder() / f"{name}.pt")
    if found is None:
        raise FileNotFoundError(f"{world_folder() / name}.pt is not there. Train the {name} first.")
    return found
