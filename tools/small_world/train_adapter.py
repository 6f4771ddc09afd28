"""Train the world's adapters with the pack's own training; run again after a kill, it goes on where it was.

    PYTHONPATH=tools python -m small_world.train_adapter joint [steps]

Names: joint, one of the tasks, or fixed, which knows one phrasing of each task.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from small_world.components import components
from small_world.encoders import ENCODERS
from small_world.files import STORED, checkpoint
from small_world.first_layer import first_layer_for
from small_world.in_process import comfy
from small_world.lessons import TRAINED, Phrasings, WorldLessons
from small_world.phrasings import PLAIN
from small_world.references import references
from small_world.scenes import TASKS
from small_world.short_texts import ShortTexts, counting_copies
from small_world.storage import log_to, save_state, saved_state, world_folder

from ipadapter_instruct.models.checkpoint import recognise  # isort: skip (after ComfyUI)
from ipadapter_instruct.models.training.engine import OneDevice  # isort: skip
from ipadapter_instruct.models.training.frozen_base import FrozenBase, family_to_teach, plain_attention  # isort: skip
from ipadapter_instruct.models.training.learner import LearningAdapter  # isort: skip
from ipadapter_instruct.models.training.loop import Teaching  # isort: skip
from ipadapter_instruct.models.training.recipe import HALF, Recipe  # isort: skip
from ipadapter_instruct.models.training.start import Shape, from_scratch  # isort: skip
from ipadapter_instruct.models.training.writing import write_adapter  # isort: skip

LOG = logging.getLogger(__name__)
JOINT, FIXED = "joint", "fixed"
NAMES = (JOINT, *TASKS, FIXED)
SHAPE = Shape(tokens=16, width=64, heads=2, blocks=3, image_ff=2, text_ff=1)
STEPS = 12_000
BATCH, RATE, WARM_UP, AVERAGED = 32, 1.5e-3, 300, 0.999
LOG_EVERY, SAVE_SECONDS = 100, 60


def phrasings_for(name: str) -> Phrasings:
    if name == JOINT:
        return TRAINED
    return {task: (PLAIN[task],) for task in TASKS} if name == FIXED else {name: TRAINED[name]}


def short_attention(function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **settings) -> Tensor:
    """Joint attention with the padding counted, see `short_texts`; attention to image tokens as it is."""
    attend = counting_copies if k.shape[1] == q.shape[1] else plain_attention
    return attend(function, q, k, v, heads, *args, **settings)


def teaching(name: str, steps: int) -> Teaching:
    model = comfy.sd.load_checkpoint_guess_config(str(checkpoint()), output_clip=False, output_vae=False)[0]
    for block in model.get_model_object("diffusion_model").joint_blocks:
        block.forward = partial(block.forward, use_checkpoint=False)  # there is memory enough to keep everything
    family = family_to_teach(model)
    base = FrozenBase(model, family, attention=short_attention)
    start = from_scratch(family, base.sites, model.get_model_object("diffusion_model"), SHAPE, seed=0)
    pool = references()
    start["image_proj.proj_in.weight"], start["image_proj.proj_in.bias"] = first_layer_for(pool, SHAPE.width)
    lessons = WorldLessons(pool, components(), ShortTexts(ENCODERS["text"].built()), phrasings_for(name))
    recipe = Recipe(steps, BATCH, rate=RATE, warm_up=WARM_UP, average=AVERAGED, arithmetic=HALF)
    return Teaching(LearningAdapter(recognise(start)), base, lessons, recipe, OneDevice())


def train(learning: Teaching, state_file: Path, adapter_file: Path) -> None:
    before = saved_state(state_file)
    if before is not None:
        learning.resume(before)
    losses, started, saved = [], time.monotonic(), time.monotonic()
    for report in learning.run():
        losses.append(report.loss)
        if report.step % LOG_EVERY == 0:
            seconds = (time.monotonic() - started) / LOG_EVERY
            LOG.info("step %d loss %.4f, %.2f s a step", report.step, sum(losses) / len(losses), seconds)
            losses, started = [], time.monotonic()
        if report.step == learning.recipe.steps or time.monotonic() - saved > SAVE_SECONDS:
            save_state(state_file, **learning.state())
            write_adapter(learning.averaged(), adapter_file, f"in the small world, {learning.step} steps")
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
    parser.add_argument("steps", type=int, nargs="?", default=STEPS)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    log_to(world_folder() / f"adapter-{wanted.name}.log")
    train(teaching(wanted.name, wanted.steps), world_folder() / f"adapter-{wanted.name}.pt", adapter_path(wanted.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
