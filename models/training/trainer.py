"""Teach an adapter, step by step.

Everything random in a step is drawn from the recipe's seed and the step's number, so that a run that was stopped and
resumed goes on as it would have gone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .accelerator import Engine
from .batch import Batch, Lessons, with_dropped
from .frozen_base import FrozenBase
from .recipe import MIXED, Recipe
from .trainable_adapter import LearningAdapter, published

BETAS = (0.9, 0.999)


class TeachingError(ArithmeticError):
    """A loss or gradient that is no number. The weights are those of the last good step."""


@dataclass(frozen=True)
class Report:
    """One step that was done. step: how many are done by now. gradient: its length before it was clipped."""

    step: int
    loss: float
    rate: float
    gradient: float


class Taught(nn.Module):
    """The learner with its loss as one module, whose call several devices can share. Only the learner is in it."""

    def __init__(self, learner: LearningAdapter, base: FrozenBase):
        super().__init__()
        self.learner = learner
        self._base = (base,)  # in a tuple, or the base would become one of its modules

    def forward(self, batch: Batch, noise: Tensor, sigmas: Tensor) -> Tensor:
        """Return the loss of each pair, [B]."""
        return self._base[0].losses(self.learner, batch, noise, sigmas)


class Teaching:
    """A learner, its optimiser and its averaged weights, as they are after some steps."""

    @torch.inference_mode(False)
    def __init__(self, learner: LearningAdapter, base: FrozenBase, lessons: Lessons, recipe: Recipe, engine: Engine):
        self.learner, self.base, self.lessons, self.recipe, self.engine = learner, base, lessons, recipe, engine
        learner.to(base.device)
        self.taught, self.optimiser = engine.shared(
            Taught(learner, base),
            torch.optim.AdamW(learner.trainable(), lr=recipe.rate, betas=BETAS, weight_decay=recipe.decay),
        )
        self.average = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
        self.blank = lessons.blank.to(base.device)
        self.step = 0

    def run(self) -> Iterator[Report]:
        """Do what is left of the recipe, and yield a report after each step. Raises TeachingError."""
        while self.step < self.recipe.steps:
            with self.base.loaded(), torch.enable_grad():
                report = self._learn()
            yield report

    def _learn(self) -> Report:
        rate = self.recipe.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        losses = [self._pass(part) for part in range(self.recipe.accumulate)]
        loss = self.engine.mean(torch.stack(losses).mean())
        gradient = nn.utils.clip_grad_norm_(self.learner.trainable(), self.recipe.clip)
        if not (torch.isfinite(loss) and torch.isfinite(gradient)):
            self.optimiser.zero_grad(set_to_none=True)
            raise TeachingError(
                f"At step {self.step} a loss was expected to be a number; it is {loss.item():g}, with a gradient of "
                f"{gradient.item():g}. The weights are those of the step before. Lower the learning rate, or look at "
                "the pairs that were learnt last."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self._follow(self.recipe.average_at(self.step))
        self.step += 1
        return Report(self.step, loss.item(), rate, gradient.item())

    def _pass(self, part: int) -> Tensor:
        """Run a forward and a backward pass; return the mean loss."""
        generator = self._generator(part)
        count = self.recipe.batch
        batch = self.lessons.batch(count, generator).to(self.base.device)
        seen = with_dropped(batch.seen, self.blank, self.recipe, generator)
        even = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        sigmas = self.base.noise_levels(even).to(self.base.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.base.device)
        last = part == self.recipe.accumulate - 1
        with self.engine.sharing(self.taught, last):
            with self.autocast():
                loss = self.taught(Batch(batch.latents, seen), noise, sigmas).mean()
            self.engine.backward(loss / self.recipe.accumulate)
        return loss.detach()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.base.device.type, torch.bfloat16, enabled=self.recipe.arithmetic == MIXED)

    def _generator(self, part: int) -> torch.Generator:
        name = f"{self.recipe.seed} step {self.step} part {part} rank {self.engine.rank}"
        return torch.Generator().manual_seed(random.Random(name).getrandbits(63))

    @torch.no_grad()
    def _follow(self, kept: float) -> None:
        """Move the averages towards the weights."""
        weights = dict(self.learner.named_parameters())
        functions: Any = torch  # whose stubs lack this one
        functions._foreach_lerp_(list(self.average.values()), [weights[name] for name in self.average], 1 - kept)

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights under the names of published files: what a finished adapter is."""
        return published(self.learner.family, self.average)

    @property
    def instructions(self) -> list[str]:
        """The instructions that the adapter was taught by now, here and before."""
        return [*self.learner.instructions, *self.lessons.instructions]

    def state(self) -> dict:
        """Return all that the steps to come depend on, besides lessons, base and recipe."""
        return {
            "step": self.step,
            "weights": self.learner.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }

    @torch.inference_mode(False)
    def resume(self, state: dict) -> None:
        """Go on from a `state`. Raises ValueError, before anything is changed, for one of another adapter."""
        expected = {name: weight.shape for name, weight in self.learner.state_dict().items()}
        found = {name: weight.shape for name, weight in state["weights"].items()}
        if expected != found:
            raise ValueError(
                "The state to resume was expected to be of an adapter of the same shape; it is of another one. "
                "Resume it with the settings it was begun with, or begin anew in another folder."
            )
        self.learner.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(_own(state["optimiser"]))
        with torch.no_grad():
            for name, weight in state["average"].items():
                self.average[name].copy_(weight)
        self.step = state["step"]


def _own(state: Any) -> Any:
    """Return an optimiser's state with tensors of its own, made outside of inference mode, whatever it was read in."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: _own(part) for name, part in state.items()}
    return [_own(part) for part in state] if isinstance(state, list) else state
