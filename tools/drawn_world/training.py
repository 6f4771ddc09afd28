"""The loop in which all of the world's models are trained; after a kill it goes on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from comfyhost.standins import whole
from ipadapter_instruct.models.training.training_arguments import TrainingArguments
from torch import Tensor, nn

from drawn_world.in_process import DEVICE
from drawn_world.storage import hash_of, stored_path, world_folder

LOG = logging.getLogger(__name__)
LOG_EVERY, SAVE_SECONDS = 50, 60
HASH = "built on"  # in a state: of the models below
BUILT_ON: Mapping[str, tuple[str, ...]] = {  # the stored models that are used in training another
    "image_encoder": ("text_encoder",),
    "attention": ("base",),
    "resampler": ("text_encoder", "image_encoder"),
}


@dataclass
class Training:
    """A model in training. ema: averages of its weights, empty unless the arguments have a decay for them."""

    name: str
    model: nn.Module
    arguments: TrainingArguments
    betas: tuple[float, float] = (0.9, 0.98)
    step: int = 0
    ema: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.to(DEVICE)
        given = {"betas": self.betas, "weight_decay": self.arguments.weight_decay}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True, **given)
        if before := saved_state(self.name):
            self.model.load_state_dict(before["model"])
            self.optimizer.load_state_dict(before["optimizer"])
            self.step, self.ema = before["step"], before["ema"]
        elif self.arguments.ema_decay:
            self.ema = {name: weight.detach().clone() for name, weight in self.model.state_dict().items()}

    def run(self, loss_of: Callable[[int], Tensor], figures: Callable[[], Any] = str, every: int = 0) -> None:
        """Do the steps that are left. loss_of: a step's loss; everything random in it comes from the number.

        figures: of the model, to be logged after every so many steps, and at the end.
        """

        def steps() -> Iterator[tuple[int, float]]:
            while self.step < self.arguments.max_train_steps:
                loss = self.optimize(loss_of(self.step))
                yield self.step, loss
                if every and (self.step == self.arguments.max_train_steps or self.step % every == 0):
                    LOG.info("step %d: %s", self.step, figures())

        log_and_save(self.name, steps(), self.state)

    def optimize(self, loss: Tensor) -> float:
        """Change the weights by one step. Raises FloatingPointError, with the weights as they were."""
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss at step {self.step} is no number. The last good state is kept.")
        for group in self.optimizer.param_groups:
            group["lr"] = self.arguments.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
        self.optimizer.step()
        if self.ema:
            self.update_ema()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def update_ema(self) -> None:
        weights, decay = self.model.state_dict(), self.arguments.ema_decay_at(self.step)
        torch._foreach_lerp_(list(self.ema.values()), [weights[name] for name in self.ema], 1 - decay)

    def state(self) -> dict[str, Any]:
        """Return all that the steps to come depend on."""
        parts = {"step": self.step, "model": self.model.state_dict(), "ema": self.ema}
        return {**parts, "optimizer": self.optimizer.state_dict()}


def log_and_save(name: str, steps: Iterable[tuple[int, float]], state: Callable[[], dict[str, Any]]) -> None:
    """Do the steps, which yield their numbers and losses, and log them; save the state each minute and at the end."""
    handlers = [logging.FileHandler(world_folder() / f"{name}.log"), logging.StreamHandler()]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)
    losses, started, saved = [], time.monotonic(), time.monotonic()
    for step, loss in steps:
        losses.append(loss)
        if step % LOG_EVERY == 0:
            seconds = (time.monotonic() - started) / len(losses)
            LOG.info("%s step %d loss %.4f, %.3f s a step", name, step, sum(losses) / len(losses), seconds)
            losses, started = [], time.monotonic()
        if time.monotonic() - saved > SAVE_SECONDS:
            save_state(name, state())
            saved = time.monotonic()
    save_state(name, state())


def state_path(name: str) -> Path:
    return world_folder() / f"{name}.pt"


def models_under(name: str) -> tuple[str, str]:
    """The stored models that a training builds on, and their hash."""
    models = BUILT_ON.get(name.partition("-")[0], ())
    return " or ".join(models), hash_of(map(stored_path, models))


def save_state(name: str, state: dict[str, Any]) -> None:
    with whole(state_path(name)) as partial:
        torch.save({**state, HASH: models_under(name)[1]}, partial)


def saved_state(name: str) -> dict[str, Any] | None:
    """The state that a training saved last, or None. Raises ValueError if the models it builds on have changed."""
    path = state_path(name)
    if not path.is_file():
        return None
    found = torch.load(path, map_location="cpu", weights_only=True)
    models, own = models_under(name)
    if models and found.get(HASH) != own:
        raise ValueError(f"{path} was trained with another {models} than is stored now. Delete it to train it anew.")
    return found


def trained_state(name: str) -> dict[str, Any]:
    """The state that a training saved last. Raises FileNotFoundError, and ValueError as `saved_state` does."""
    found = saved_state(name)
    if found is None:
        raise FileNotFoundError(f"{state_path(name)} is not there. Train the {name} first.")
    return found
