"""A whole training run from files to a file: what `cli.py train` does."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import torch
from torch import Tensor

from ..adapter.checkpoint import read_checkpoint
from ..adapter.write import write_adapter
from ..denoisers.denoiser import denoiser_of
from ..encoding.image_encoder import check_encoder
from ..files.atomic_write import cannot_write, whole
from ..files.encoder_files import EncoderNeed
from .accelerator import Engine
from .dataset import Encoders, PairLessons, encoded
from .frozen_base import FrozenBase, family_to_teach
from .initial_checkpoint import IMAGE_WIDTH, Shape, begun
from .loss_plot import loss_plot
from .pairs import Pair, read_pairs
from .recipe import Recipe
from .state_cache import StateStore
from .trainable_adapter import LearningAdapter
from .trainer import Teaching, TeachingError
from .validation import Sampling, divided, one_of_each_task, sample_grid, validation_losses

LOG = logging.getLogger(__name__)
STATE, LOSSES, RECIPE = "state.pt", "losses.jsonl", "recipe.json"
MOST_ROWS = 6  # of a sample grid


@dataclass(frozen=True)
class Job:
    """The training run that a user asks for.

    data: see `read_pairs`. checkpoint: the base model's file. clip: text encoders where the checkpoint has none, or
    CLIP-L for SD3. vae: where the checkpoint has none. start: an adapter to begin with, None for drawn weights.
    output: the adapter to write. work: where states, samples and what is needed to resume are kept.
    size: a side of the targets, in pixels. Every so many steps: log_every, save_every, validate_every.
    """

    data: Path
    checkpoint: Path
    clip_vision: Path
    output: Path
    work: Path
    recipe: Recipe
    clip: tuple[Path, ...] = ()
    vae: Path | None = None
    start: Path | None = None
    shape: Shape = field(default_factory=Shape)
    size: int = 512
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 500


@torch.inference_mode()  # as ComfyUI runs nodes
def run(job: Job, engine: Engine) -> None:
    """Teach an adapter, or go on where an earlier run of the same job was stopped.

    Raises ValueError for files that are not what is needed, and TeachingError; the last good state is then kept.
    """
    pairs, held = divided(read_pairs(job.data))
    model, encoders = loaded(job)
    family = family_to_teach(model)
    base = FrozenBase(model, family, job.recipe.dtype)
    start = job.shape if job.start is None else read_checkpoint(job.start)
    learner = LearningAdapter(begun(start, family, base.sites, base.own, job.recipe.seed))
    check_same_recipe(job)
    store = StateStore(job.work / "states")
    lessons = encoded(pairs, encoders, base, store, _told)
    validation = encoded(held, encoders, base, store, _told) if held else None
    teaching = Teaching(learner, base, lessons, job.recipe, engine)
    if (job.work / STATE).is_file():
        teaching.resume(torch.load(job.work / STATE, map_location=base.device, weights_only=True))
        LOG.info("resumed after step %d", teaching.step)
    _teach(job, teaching, encoders, validation, held or pairs)


def loaded(job: Job) -> tuple:
    """Load ComfyUI's ModelPatcher and the encoders. Raises ValueError for files that are none."""
    for path in (job.checkpoint, job.clip_vision, *job.clip, *filter(None, (job.vae, job.start))):
        if not path.is_file():
            raise ValueError(f"A file was expected at {path}; there is none. Correct the path.")
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(job.checkpoint))
    clip = _text_encoders(job, model) if job.clip else clip
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(job.vae))) if job.vae else vae
    clip_vision = comfy.clip_vision.load(str(job.clip_vision))
    for part, found in (("text encoder", clip), ("autoencoder", vae), ("image encoder", clip_vision)):
        if found is None:
            raise ValueError(f"A {part} was expected; none of the files holds one. Give its file, too.")
    check_encoder(clip_vision, EncoderNeed(IMAGE_WIDTH, pooled=False), job.clip_vision.name)
    return model, Encoders(clip, vae, clip_vision, (job.size, job.size))


def _text_encoders(job: Job, model):
    types = comfy.sd.CLIPType
    kind = getattr(types, denoiser_of(family_to_teach(model)).clip_type)
    return comfy.sd.load_clip([str(path) for path in job.clip], clip_type=kind)


def check_same_recipe(job: Job) -> None:
    """Raises ValueError when a run that is to be resumed was begun with other settings, which it would mix."""
    path, own = job.work / RECIPE, json.loads(json.dumps(_settings(job)))
    if (job.work / STATE).is_file() and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in own if own[name] != before.get(name)]
        if other:
            raise ValueError(
                f"The run in {job.work} was expected to have been begun with the same settings; "
                + ", ".join(f"{name} was {before.get(name)} and is now {own[name]}" for name in other)
                + ". Give the same ones, or another --work folder to begin anew."
            )
    job.work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(own, indent=1), encoding="utf-8")


def _settings(job: Job) -> dict:
    files = {name: str(getattr(job, name)) for name in ("data", "checkpoint", "clip_vision", "start")}
    return {**files, "size": job.size, **asdict(job.recipe), **asdict(job.shape)}


def _teach(
    job: Job, teaching: Teaching, encoders: Encoders, validation: PairLessons | None, shown: Sequence[Pair]
) -> None:
    recent, seconds, began = [], 0.0, time.monotonic()
    try:
        for report in teaching.run():
            recent.append(report)
            seconds += time.monotonic() - began
            is_last = report.step == job.recipe.steps
            if report.step % job.log_every == 0 or is_last:
                _log(job, teaching, recent, seconds / len(recent))
                recent, seconds = [], 0.0
            if report.step % job.save_every == 0 or is_last:
                save(job, teaching)
            if report.step % job.validate_every == 0 or is_last:
                _validate(job, teaching, encoders, validation, shown)
            began = time.monotonic()
    except (TeachingError, KeyboardInterrupt):
        save(job, teaching)
        raise


def _log(job: Job, teaching: Teaching, reports: Sequence, seconds: float) -> None:
    if not teaching.engine.is_first:
        return
    loss = sum(report.loss for report in reports) / len(reports)
    last = reports[-1]
    LOG.info("step %d of %d: loss %.4f, %.2f s a step", last.step, job.recipe.steps, loss, seconds)
    with (job.work / LOSSES).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(report)) + "\n" for report in reports)


def save(job: Job, teaching: Teaching) -> None:
    """Write what resuming needs, and the adapter as it is; each file is whole or as it was."""
    if not teaching.engine.is_first:
        return
    try:
        with whole(job.work / STATE) as partial:
            torch.save(teaching.state(), partial)
        note = f"taught on {job.checkpoint.name}, {teaching.step} steps"
        write_adapter(teaching.averaged(), job.output, note, teaching.instructions)
    except (OSError, RuntimeError) as error:  # torch's, of a full disk
        raise ValueError(cannot_write("The adapter and its state", job.work, error)) from error


def _validate(
    job: Job, teaching: Teaching, encoders: Encoders, validation: PairLessons | None, shown: Sequence[Pair]
) -> None:
    if not teaching.engine.is_first:
        return
    if validation is not None:
        losses = validation_losses(teaching, validation)
        LOG.info("step %d: validation loss %s", teaching.step, ", ".join(f"{t} {v:.4f}" for t, v in losses.items()))
        with (job.work / LOSSES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": teaching.step, "validation": losses}) + "\n")
    grid = sample_grid(teaching, encoders, one_of_each_task(shown)[:MOST_ROWS], Sampling(seed=job.recipe.seed))
    save_picture(grid, job.work / "samples" / f"{teaching.step:06d}.png")
    save_picture(loss_plot(losses_so_far(job.work)), job.work / "losses.png")


def losses_so_far(work: Path) -> list[float]:
    """Return the losses of all steps; those that a resumed run did again count once."""
    lines = (json.loads(line) for line in (work / LOSSES).read_text(encoding="utf-8").splitlines())
    return list({line["step"]: line["loss"] for line in lines if "loss" in line}.values())


def save_picture(picture: Tensor, path: Path) -> None:
    """Write a picture [1, H, W, 3] in 0..1 as a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture[0] * 255).round().to(torch.uint8).numpy()).save(path)


def _told(done: int, count: int, what: str) -> None:
    if done == count or done % 100 == 0:
        LOG.info("%s encoded: %d of %d", what, done, count)
