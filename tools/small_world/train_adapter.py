"""Train the world's adapters with the pack's own training; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train_adapter joint [steps] [--reading-only]

Names: joint, one of the tasks, or fixed, which knows one phrasing of each task. --reading-only makes what all of them
begin with, on both cores, and no adapter.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from ipadapter_instruct.models.adapter.checkpoint import recognise
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.frozen_base import FrozenBase, plain_attention, trainable_family
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import BF16, TrainingArguments
from safetensors.torch import load_file
from torch import Tensor

from small_world.components import components
from small_world.encoders import ENCODERS
from small_world.files import STORED, checkpoint
from small_world.first_layer import first_layers
from small_world.in_process import comfy
from small_world.lessons import TRAINED, Phrasings, WorldLessons
from small_world.phrasings import PLAIN
from small_world.reading import READS_PICTURES, READS_TEXTS, reading_parts
from small_world.references import References, references
from small_world.scenes import TASKS
from small_world.short_texts import ShortTexts, counting_copies
from small_world.storage import log_to, save_state, save_tensors, saved_state, world_folder

LOG = logging.getLogger(__name__)
RESAMPLER = "image_proj."
TEXTS_HELD = 0.6  # of the steps; what reads pictures is held to the end
JOINT, FIXED = "joint", "fixed"
NAMES = (JOINT, FIXED, *TASKS)  # the longest lessons first
SHAPE = Shape(tokens=16, width=64, heads=2, blocks=3, image_ff=2, text_ff=1)
STEPS = {JOINT: 3000, FIXED: 3000, **{task: 600 for task in TASKS}}  # a task gets as many examples from each
BATCH, RATE, WARM_UP, AVERAGED = 32, 1.5e-3, 100, 0.999
LOG_EVERY, SAVE_SECONDS = 100, 60


def phrasings_for(name: str) -> Phrasings:
    if name == JOINT:
        return TRAINED
    return {task: (PLAIN[task],) for task in TASKS} if name == FIXED else {name: TRAINED[name]}


def short_attention(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **settings) -> Tensor:
    """Joint attention with the padding counted, see `short_texts`; attention to image tokens as it is."""
    attend = counting_copies if k.shape[1] == q.shape[1] else plain_attention
    return attend(function, q, k, v, heads, *args, **settings)


def trainer_for(name: str, steps: int) -> Trainer:
    model = comfy.sd.load_checkpoint_guess_config(str(checkpoint()), output_clip=False, output_vae=False)[0]
    for block in model.get_model_object("diffusion_model").joint_blocks:
        block.forward = partial(block.forward, use_checkpoint=False)  # there is memory enough to keep everything
    family = trainable_family(model)
    base = FrozenBase(model, family, attention=short_attention)
    pool, texts = references(), ShortTexts(ENCODERS["text"].built())
    drawn = from_scratch(base, SHAPE, seed=0)
    start = {**drawn, **reading_part(drawn, pool, texts)}
    lessons = WorldLessons(pool, components(), texts, phrasings_for(name))
    numbers = {"learning_rate": RATE, "lr_warmup_steps": WARM_UP, "ema_decay": AVERAGED}
    arguments = TrainingArguments(steps, BATCH, **numbers, mixed_precision=BF16)
    return Trainer(TrainableAdapter(recognise(start)), base, lessons, arguments, Accelerator())


def hold(adapter: TrainableAdapter, done: float) -> None:
    """Have what reads stay as it is, or learn, when this share of the steps is done.

    While nothing can be written into the base model yet, gradients are noise, and what was learnt would be forgotten.
    """
    held = (*READS_PICTURES, *(READS_TEXTS if done < TEXTS_HELD else ()))
    for name, weight in adapter.image_projection.named_parameters():
        weight.requires_grad_(not name.startswith(held))


def reading_part(drawn: Mapping[str, Tensor], pool: References, texts: ShortTexts) -> dict[str, Tensor]:
    """What of a drawn adapter's tensors is replaced before the lessons: see `first_layer` and `reading`.

    Made once for all adapters and kept in the cache folder: on another number of threads the first layers' directions
    have other signs, and what was taught with one of them cannot read with another.
    """
    path = world_folder() / "reading_part.safetensors"
    if not path.is_file():
        resampler = recognise(drawn).image_projection
        layers = first_layers(pool, texts, SHAPE.width)
        made = {**layers, **reading_parts({**resampler, **layers}, pool, texts)}
        save_tensors(made, path, "reads pictures, and keeps what is asked for")
    return {RESAMPLER + name: weight for name, weight in load_file(path).items()}


def train(trainer: Trainer, state_file: Path, adapter_file: Path) -> None:
    before = saved_state(state_file)
    if before is not None:
        trainer.resume(before)
    losses, started, saved = [], time.monotonic(), time.monotonic()
    hold(trainer.adapter, trainer.step / trainer.arguments.max_train_steps)
    for report in trainer.steps():
        hold(trainer.adapter, report.step / trainer.arguments.max_train_steps)
        losses.append(report.loss)
        if report.step % LOG_EVERY == 0:
            seconds = (time.monotonic() - started) / LOG_EVERY
            LOG.info("step %d loss %.4f, %.2f s a step", report.step, sum(losses) / len(losses), seconds)
            losses, started = [], time.monotonic()
        if report.step == trainer.arguments.max_train_steps or time.monotonic() - saved > SAVE_SECONDS:
            save_state(state_file, **trainer.state())
            trainer.write(adapter_file, "in the small world")
            saved = time.monotonic()


def adapter_path(name: str) -> Path:
    """Where an adapter is while it is trained."""
    return world_folder() / f"small_world_{name}.safetensors"


def stored_adapter(name: str) -> Path:
    """Where a trained adapter is: in the repository, or where it was trained on this machine."""
    stored = STORED / f"{name}.safetensors"
    return stored if stored.is_file() else adapter_path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("steps", type=int, nargs="?")
    parser.add_argument("--reading-only", action="store_true")
    wanted = parser.parse_args()
    steps = wanted.steps or STEPS[wanted.name]
    torch.set_num_threads(2 if wanted.reading_only else 1)
    log_to(world_folder() / f"adapter-{wanted.name}.log")
    trainer = trainer_for(wanted.name, steps)
    if not wanted.reading_only:
        train(trainer, world_folder() / f"adapter-{wanted.name}.pt", adapter_path(wanted.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
