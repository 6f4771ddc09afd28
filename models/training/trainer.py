"""Set up a training, for the node and for the command, and train an adapter, step by step.

Everything random in a step is drawn from the seed and the step's number, so that a run that was stopped and resumed
goes on as it would have gone.
"""

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor, nn

from ..adapter.checkpoint import AdapterCheckpoint, recognise
from ..adapter.trained_files import write_adapter
from ..files.tensor_cache import TensorCache
from .accelerator import Accelerator
from .batch import Batch, drop_conditioning
from .dataset import Encoders, PairDataset, Progress, encode_pairs
from .frozen_base import FrozenBase, trainable_family
from .initial_checkpoint import Shape, from_file, from_scratch
from .pairs import Pair
from .trainable_adapter import TrainableAdapter, named_as_published
from .training_arguments import BF16, TrainingArguments

BETAS = (0.9, 0.999)


class TrainingError(ArithmeticError):
    """A loss or gradient that is no number. The weights are those of the last good step."""


@dataclass(frozen=True)
class StepReport:
    """One step that was done. step: how many are done by now. grad_norm: the gradient's length before clipping."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float


class Trainer:
    """An adapter, its optimizer and its averaged weights, as they are after some steps.

    model: the adapter, as several processes share it. ema: the averages, by the names of the adapter's parameters.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        adapter: TrainableAdapter,
        base: FrozenBase,
        dataset: PairDataset,
        arguments: TrainingArguments,
        accelerator: Accelerator,
    ):
        self.adapter, self.base, self.dataset = adapter, base, dataset
        self.arguments, self.accelerator = arguments, accelerator
        adapter.to(base.device)
        parameters, learning_rate = adapter.trainable_parameters(), arguments.learning_rate
        optimizer = torch.optim.AdamW(parameters, learning_rate, BETAS, weight_decay=arguments.weight_decay)
        self.model, self.optimizer = accelerator.prepare(adapter, optimizer)
        self.ema = {name: weight.detach().clone() for name, weight in adapter.named_parameters()}
        self.unconditional = dataset.unconditional.to(base.device)
        self.step = 0

    def train(self, after_step: Callable[[StepReport], None], save: Callable[[], None]) -> None:
        """Do the steps that are left. When the run is stopped in between, save what has been trained by then.

        Raises TrainingError, and whatever stopped the run.
        """
        first = self.step
        try:
            for report in self.steps():
                after_step(report)
        except (TrainingError, KeyboardInterrupt, mm.InterruptProcessingException):
            if self.step > first:
                save()
            raise

    def steps(self) -> Iterator[StepReport]:
        """Do the steps that are left, and yield a report after each. Raises TrainingError."""
        while self.step < self.arguments.max_train_steps:
            with self.base.loaded(), torch.enable_grad():
                report = self._train_step()
            yield report

    def _train_step(self) -> StepReport:
        learning_rate = self.arguments.learning_rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._accumulate(part) for part in range(self.arguments.gradient_accumulation_steps)]
        loss = self.accelerator.reduce(torch.stack(losses).mean(), "mean")
        grad_norm = nn.utils.clip_grad_norm_(self.adapter.trainable_parameters(), self.arguments.max_grad_norm)
        if not (torch.isfinite(loss) and torch.isfinite(grad_norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(
                f"At step {self.step} a loss was expected to be a number; it is {loss.item():g}, with a gradient of "
                f"{grad_norm.item():g}. The weights are those of the step before. Lower the learning rate, or look at "
                "the pairs that were trained on last."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        for average, weight in zip(self.ema.values(), self.adapter.parameters(), strict=True):
            average.lerp_(weight.detach(), 1 - self.arguments.ema_decay_at(self.step))
        self.step += 1
        return StepReport(self.step, loss.item(), learning_rate, grad_norm.item())

    def _accumulate(self, part: int) -> Tensor:
        name = f"{self.arguments.seed} step {self.step} part {part} rank {self.accelerator.process_index}"
        generator = torch.Generator().manual_seed(random.Random(name).getrandbits(63))
        count, parts = self.arguments.batch_size, self.arguments.gradient_accumulation_steps
        batch = self.dataset.batch(count, generator).to(self.base.device)
        given = drop_conditioning(batch.conditioning, self.unconditional, self.arguments, generator)
        even = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        sigmas = self.base.noise_levels(even).to(self.base.device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(self.base.device)
        with contextlib.nullcontext() if part == parts - 1 else self.accelerator.no_sync(self.model):
            with self.autocast():
                loss = self.model(self.base.losses, Batch(batch.latents, given), noise, sigmas).mean()
            self.accelerator.backward(loss / parts)
        return loss.detach()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.base.device.type, torch.bfloat16, enabled=self.arguments.mixed_precision == BF16)

    def trained_weights(self) -> dict[str, Tensor]:
        """Return the averaged weights under the names of published files: what a finished adapter is."""
        return named_as_published(self.adapter.family, self.ema)

    def write(self, path: Path, where: str) -> None:
        """Write the adapter as it is by now, with where and on what it was trained. Raises ValueError."""
        instructions = [*self.adapter.instructions, *self.dataset.instructions]
        write_adapter(self.trained_weights(), path, f"{where}, {self.step} steps", instructions)

    def state(self) -> dict:
        """Return all that the steps to come depend on, besides dataset, base and arguments."""
        return {
            "step": self.step,
            "adapter": self.adapter.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
        }

    @torch.inference_mode(False)
    def resume(self, state: dict) -> None:
        """Go on from a `state`. Raises ValueError, before anything is changed, for one of another adapter."""
        expected = {name: weight.shape for name, weight in self.adapter.state_dict().items()}
        found = {name: weight.shape for name, weight in state["adapter"].items()}
        if expected != found:
            raise ValueError(
                "The state to resume was expected to be of an adapter of the same shape; it is of another one. "
                "Resume it with the arguments that it was started with, or start anew in another folder."
            )
        self.adapter.load_state_dict(state["adapter"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # which may be of inference mode
        for name, average in self.ema.items():
            average.copy_(state["ema"][name])
        self.step = state["step"]


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """All that a training is made of.

    model: ComfyUI's ModelPatcher of the base model. initial: the adapter to start from, or the shape of a new one.
    """

    model: Any
    encoders: Encoders
    pairs: Sequence[Pair]
    initial: AdapterCheckpoint | Shape
    arguments: TrainingArguments

    def trainer(self, cache: TensorCache, progress: Progress, accelerator: Accelerator | None = None) -> Trainer:
        """Encode what is not in the cache yet, and return the trainer before its first step.

        Raises ValueError for a model that cannot be trained on, an adapter that does not fit it, and pairs that cannot
        be encoded.
        """
        base, seed = FrozenBase(self.model, trainable_family(self.model), self.arguments.dtype), self.arguments.seed
        if isinstance(self.initial, Shape):
            start = recognise(from_scratch(base, self.initial, seed))
        else:
            start = from_file(self.initial, base.family, base.sites, seed)
        dataset = encode_pairs(self.pairs, self.encoders, base, cache, progress)
        return Trainer(TrainableAdapter(start), base, dataset, self.arguments, accelerator or Accelerator())
