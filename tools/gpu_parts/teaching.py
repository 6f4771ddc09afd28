"""The seconds and the memory of a training step on the card, in bf16, with as many pairs at a time as fit."""

import itertools
import statistics
from dataclasses import replace
from timeit import default_timer

import torch
from benchmarks.counting import conditioning
from benchmarks.models import BASES, NARROW, Base, drawn_model, drawn_tensors
from benchmarks.wall_clock import finish
from comfyhost.adapters import INPUTS
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.batch import Batch, Conditioning, stack_conditioning
from ipadapter_instruct.models.training.frozen_base import FrozenBase
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import BF16, TrainingArguments

from gpu_parts.run import Run

POSITIONS, TEXT_TOKENS = 257, 77  # of the image encoder, of the instruction's text encoder
STEPS = 3  # that are timed; one before them is not
MOST_PAIRS = {True: 64, False: 2}  # on a card, to rehearse
ARGUMENTS = TrainingArguments(max_train_steps=10**6, batch_size=1, mixed_precision=BF16)


class DrawnPairs:
    """A dataset of noise in the sizes of a base model's pairs."""

    def __init__(self, base: Base, channels: int):
        [[context, pooled]] = conditioning(base)
        image, instruct, prompt = INPUTS.values()
        texts = (torch.randn(1, TEXT_TOKENS, width) for width in (instruct, prompt))
        self.unconditional = Conditioning(
            torch.randn(1, POSITIONS, image), *texts, context, pooled.get("pooled_output")
        )
        self.latents = torch.randn(1, channels, base.latent, base.latent)

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        return Batch(self.latents.expand(count, -1, -1, -1), stack_conditioning([self.unconditional] * count))


def measure(run: Run) -> None:
    run.each("training", BASES if run.on_card else NARROW, teach)


@torch.inference_mode(False)
def teach(run: Run, base: Base, end: float) -> None:
    """Train for a few steps with 1, 2, 4 pairs and so on, until the card is full or the time is over."""
    patcher = drawn_model(base, torch.bfloat16)
    frozen = FrozenBase(patcher, base.family, ARGUMENTS.dtype)
    pairs = DrawnPairs(base, patcher.model.latent_format.latent_channels)
    adapter = TrainableAdapter(recognise(drawn_tensors(base.adapter, torch.float32)))
    trainer = Trainer(adapter, frozen, pairs, ARGUMENTS, Accelerator())
    for count in itertools.takewhile(MOST_PAIRS[run.on_card].__ge__, (2**power for power in itertools.count())):
        if default_timer() > end:
            break
        trainer.arguments = replace(ARGUMENTS, batch_size=count)
        with run.kept(f"training {base.title}, {count} at a time"):
            run.reset_peak()
            times = timed_steps(trainer)
            seconds, peak = statistics.median(times), run.peak()
            what = f"a training step of {base.title} at {8 * base.latent} pixels, bf16, {count} at a time"
            figure = f"{seconds:.3g} s, {seconds / count:.3g} s a pair; {peak / 1e9:.3g} GB"
            run.emit(what, figure, seconds=seconds, peak=peak, times=times)
            continue
        trainer.optimizer.zero_grad(set_to_none=True)
        break


def timed_steps(trainer: Trainer) -> list[float]:
    steps = trainer.steps()
    next(steps)
    times = []
    for _ in range(STEPS):
        finish()
        begin = default_timer()
        next(steps)
        finish()
        times.append(default_timer() - begin)
    return times
