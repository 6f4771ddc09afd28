"""A whole training from files to a file."""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import torch

from ...models.adapter.checkpoint import read_checkpoint
from ...models.denoisers.denoiser import denoiser_of
from ...models.encoding.image_encoder import check_encoder
from ...models.encoding.open_clip.towers import load_image_tower
from ...models.files.atomic_write import refusals, whole
from ...models.files.encoder_files import VIT_H_HIDDEN_STATES
from ...models.files.tensor_cache import TensorCache
from ...models.training.accelerator import Accelerator
from ...models.training.dataset import Encoders, PairDataset, encode_pairs
from ...models.training.frozen_base import trainable_family
from ...models.training.initial_checkpoint import Shape
from ...models.training.loss_plot import loss_plot
from ...models.training.pairs import Pair, read_pairs
from ...models.training.trainer import StepReport, Trainer, TrainingSetup
from ...models.training.training_arguments import TrainingArguments
from ...models.training.validation import pil_image, sample_grid, validation_losses, validation_split
from ..servers.journal import append, whole_lines

LOG = logging.getLogger(__name__)
STATE, LOSSES, SETTINGS = "state.pt", "losses.jsonl", "settings.json"
MOST_ROWS = 6  # of a sample grid
ELSEWHERE = "choose another --work folder"
# What a run may go on with differently; all else would be mixed.
NOT_SETTINGS = ("output", "work", "cache", "logging_steps", "checkpointing_steps", "validation_steps")


@dataclass(frozen=True)
class Job:
    """The training that a user asks for."""

    data: Path  # see `read_pairs`
    checkpoint: Path  # the base model's file
    clip_vision: Path
    output: Path  # the adapter to write
    work: Path  # where states, samples and what is needed to resume are kept
    cache: Path  # of what is encoded
    arguments: TrainingArguments
    text_encoders: tuple[Path, ...] = ()  # where the checkpoint has none, or CLIP-L for SD3
    vae: Path | None = None  # where the checkpoint has none
    initial_adapter: Path | None = None  # to start from; None for a new one of `shape`
    shape: Shape = field(default_factory=Shape)
    fixed_instructions: bool = False  # each pair in its first wording alone
    resolution: int = 512  # a side of the targets, in pixels
    logging_steps: int = 10  # after so many steps each
    checkpointing_steps: int = 500
    validation_steps: int = 500


@torch.inference_mode()  # as ComfyUI runs nodes
def run(job: Job, accelerator: Accelerator) -> None:
    """Train an adapter, or go on where an earlier run of the same job was stopped.

    Raises ValueError for files that are not what is needed, and TrainingError; the last good state is then kept.
    """
    training, held_out = validation_split(pairs_of(job))
    check_same_settings(job)
    model, encoders = load_models(job)
    initial = job.shape if job.initial_adapter is None else read_checkpoint(job.initial_adapter)
    cache = TensorCache(job.cache)
    setup = TrainingSetup(model, encoders, training, initial, job.arguments)
    trainer = setup.trainer(cache, _log_encoding, accelerator)
    validation = encode_pairs(held_out, encoders, trainer.base, cache, _log_encoding) if held_out else None
    if (job.work / STATE).is_file():
        trainer.resume(torch.load(job.work / STATE, map_location=trainer.base.device, weights_only=True))
        LOG.info("resumed after step %d", trainer.step)
    job.work.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        with refusals("The run's settings", job.work, elsewhere=ELSEWHERE), whole(job.work / SETTINGS) as partial:
            partial.write_text(json.dumps(_settings(job), indent=1, default=str), encoding="utf-8")
        reports = Reports(job, trainer, encoders, validation, held_out or training)
        trainer.train(reports.after_step, reports.save)
    else:
        trainer.train(lambda report: None, lambda: None)


def pairs_of(job: Job) -> list[Pair]:
    """Read the pairs. Raises ValueError for a place without any."""
    pairs = read_pairs(job.data)
    return [replace(pair, instructions=pair.instructions[:1]) for pair in pairs] if job.fixed_instructions else pairs


def load_models(job: Job) -> tuple:
    """Load ComfyUI's ModelPatcher and the encoders. Raises ValueError for files that are none."""
    for path in (job.checkpoint, job.clip_vision, *job.text_encoders, *filter(None, (job.vae, job.initial_adapter))):
        if not path.is_file():
            raise ValueError(f"A file was expected at {path}; there is none. Correct the path.")
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(job.checkpoint))
    if job.text_encoders:
        kind = getattr(comfy.sd.CLIPType, denoiser_of(trainable_family(model)).clip_type)
        clip = comfy.sd.load_clip([str(path) for path in job.text_encoders], clip_type=kind)
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(job.vae))) if job.vae else vae
    clip_vision = comfy.clip_vision.load(str(job.clip_vision)) or load_image_tower(job.clip_vision)
    for part, found in (("A text encoder", clip), ("An autoencoder", vae)):
        if found is None:
            raise ValueError(f"{part} was expected; none of the files holds one. Give its file, too.")
    check_encoder(clip_vision, VIT_H_HIDDEN_STATES, job.clip_vision.name)
    return model, Encoders(clip, vae, clip_vision, (job.resolution, job.resolution))


def check_same_settings(job: Job) -> None:
    """Raises ValueError when a run that is to be resumed was started with other settings, which it would mix."""
    path, own = job.work / SETTINGS, _settings(job)
    if not ((job.work / STATE).is_file() and path.is_file()):
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name in own if str(own[name]) != str(before.get(name))]
    if other:
        raise ValueError(
            f"The run in {job.work} was expected to have been started with the same settings; "
            + ", ".join(f"{name} was {before.get(name)} and is now {own[name]}" for name in other)
            + ". Give the same ones, or another --work folder to start anew."
        )


def _settings(job: Job) -> dict:
    own = {name: value for name, value in asdict(job).items() if name not in NOT_SETTINGS}
    own |= {**own.pop("arguments"), **own.pop("shape")}
    return {**own, "text_encoders": ", ".join(map(str, job.text_encoders)) or None}


class Reports:
    """The files and log lines of a run. validation: pairs it is not trained on, or None. sampled: pairs to sample."""

    def __init__(
        self, job: Job, trainer: Trainer, encoders: Encoders, validation: PairDataset | None, sampled: Sequence[Pair]
    ):
        self.job, self.trainer, self.encoders = job, trainer, encoders
        self.validation = validation
        self.sampled = list({pair.task: pair for pair in reversed(sampled)}.values())[::-1]  # one of each task
        self.recent: list[StepReport] = []
        self.seconds, self.began = 0.0, time.monotonic()
        if (job.work / LOSSES).is_file():
            with self._writing("The losses"), (job.work / LOSSES).open("rb+") as file:
                whole_lines(file)

    def after_step(self, report: StepReport) -> None:
        job, is_last = self.job, report.step == self.job.arguments.max_train_steps
        self.recent.append(report)
        self.seconds += time.monotonic() - self.began
        if report.step % job.logging_steps == 0 or is_last:
            self._log(report.step)
        if report.step % job.checkpointing_steps == 0 or is_last:
            self.save()
        if report.step % job.validation_steps == 0 or is_last:
            self._validate(report.step)
        self.began = time.monotonic()

    def save(self) -> None:
        """Write what resuming needs, and the adapter as it is; each file is whole or as it was."""
        trainer, job = self.trainer, self.job
        with self._writing("The adapter and its state", RuntimeError):  # torch's, of a full disk
            with whole(job.work / STATE) as partial:
                torch.save(trainer.state(), partial)
            trainer.write(job.output, f"on {job.checkpoint.name}")

    def _writing(self, what: str, *errors: type[Exception]) -> AbstractContextManager[None]:
        return refusals(what, self.job.work, elsewhere=ELSEWHERE, errors=(OSError, *errors))

    def _log(self, step: int) -> None:
        count = len(self.recent)
        loss, seconds = sum(report.loss for report in self.recent) / count, self.seconds / count
        LOG.info("step %d of %d: loss %.4f, %.2f s a step", step, self.job.arguments.max_train_steps, loss, seconds)
        self._note(*map(asdict, self.recent))
        self.recent, self.seconds = [], 0.0

    def _note(self, *lines: dict) -> None:
        content = "".join(json.dumps(line) + "\n" for line in lines).encode("utf-8")
        with self._writing("The losses"), (self.job.work / LOSSES).open("ab", buffering=0) as file:
            append(file, content)

    def _validate(self, step: int) -> None:
        if self.validation is not None:
            losses = validation_losses(self.trainer, self.validation)
            LOG.info("step %d: validation loss %s", step, ", ".join(f"{t} {v:.4f}" for t, v in losses.items()))
            self._note({"step": step, "validation": losses})
        samples = self.job.work / "samples"
        grid = sample_grid(self.trainer, self.encoders, self.sampled[:MOST_ROWS])
        lines = map(json.loads, (self.job.work / LOSSES).read_text(encoding="utf-8").splitlines())
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}  # of repeated steps the last
        with self._writing("The samples and the plot of losses"):
            samples.mkdir(parents=True, exist_ok=True)
            pil_image(grid).save(samples / f"{step:06d}.png")
            pil_image(loss_plot(list(losses.values()))[0]).save(self.job.work / "losses.png")


def _log_encoding(done: int, count: int, what: str) -> None:
    if done == count or done % 100 == 0:
        LOG.info("%s encoded: %d of %d", what, done, count)
