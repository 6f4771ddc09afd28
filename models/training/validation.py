"""Measure how far an adapter has come: a loss for each task on pairs it is not taught with, and pictures it makes.

Axes: B pairs, H and W of a picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import comfy.sample
import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapter.checkpoint import recognise
from ..encoding.encode import AdapterWithEncoders, encode_references
from ..encoding.loaded_adapter import LoadedAdapter
from ..encoding.references import one_image
from ..encoding.text_cache import conditionings
from ..encoding.tokens import Texts
from ..patching.apply import ApplySettings, apply_instruct
from .dataset import Encoders, PairLessons
from .pairs import Pair
from .trainer import Teaching

SEED = 0
LEVELS = 4  # noise levels a pair
HELD_OUT, FEWEST = 0.05, 20  # of a task's pairs, where it has at least so many
SAMPLER, SCHEDULER, SAMPLING_STEPS = "euler", "normal", 20


def divided(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return pairs to teach with and pairs to validate with: one in twenty of each task that has twenty or more."""
    taught, held = [], []
    seen: dict[str, int] = {}
    counts = {task: sum(pair.task == task for pair in pairs) for task in {pair.task for pair in pairs}}
    for pair in pairs:
        place = seen[pair.task] = seen.get(pair.task, -1) + 1
        is_held = counts[pair.task] >= FEWEST and place % round(1 / HELD_OUT) == 0
        (held if is_held else taught).append(pair)
    return taught, held


def validation_losses(teaching: Teaching, lessons: PairLessons, at_once: int = 8) -> dict[str, float]:
    """Return the averaged adapter's mean loss on each task's pairs, with noise that is always the same."""
    losses = {}
    base = teaching.base
    with base.loaded(), torch.no_grad(), averaged_weights(teaching), teaching.autocast():
        for task in lessons.tasks:
            numbers = [number for number in lessons.of_task(task) for _ in range(LEVELS)]
            generator, found = torch.Generator().manual_seed(SEED), []
            for start in range(0, len(numbers), at_once):
                own = numbers[start : start + at_once]
                batch = lessons.examples([(n, lessons.pairs[n].instructions[0]) for n in own]).to(base.device)
                positions = (torch.arange(start, start + len(own)) % LEVELS + 0.5) / LEVELS
                noise = torch.randn(batch.latents.shape, generator=generator).to(base.device)
                sigmas = base.noise_levels(positions).to(base.device)
                found += base.losses(teaching.learner, batch, noise, sigmas).tolist()
            losses[task] = sum(found) / len(found)
    return losses


@contextlib.contextmanager
def averaged_weights(teaching: Teaching) -> Iterator[None]:
    """Give the learner its averaged weights, for as long as the context lasts."""
    parameters = dict(teaching.learner.named_parameters())
    own = {name: weight.detach().clone() for name, weight in parameters.items()}
    try:
        _put(parameters, teaching.average)
        yield
    finally:
        _put(parameters, own)


@torch.no_grad()
def _put(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


@dataclass(frozen=True)
class Sampling:
    """The settings by which pictures are made while teaching."""

    weight: float = 1.0
    steps: int = SAMPLING_STEPS
    seed: int = SEED


def sampled(
    teaching: Teaching, encoders: Encoders, reference: Tensor, caption: str, instruction: str, how: Sampling
) -> Tensor:
    """Sample the picture [H, W, 3] that the averaged adapter makes of a reference [H, W, 3], as the pack's nodes do."""
    with torch.inference_mode():
        adapter = LoadedAdapter("being taught", recognise(teaching.averaged()))
        clip = encoders.instruct_clip or encoders.clip
        loaded = AdapterWithEncoders(adapter, clip_vision=encoders.clip_vision)
        embeds = encode_references(loaded, clip, one_image(reference[None]), Texts(instruction, caption, ""))
        model, _ = apply_instruct(teaching.base.patcher, embeds, ApplySettings(weight=how.weight, guidance="simple"))
        positive, negative = conditionings(encoders.clip, [caption, ""])
        latent = torch.zeros(1, *_latent_shape(teaching, encoders))
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(how.seed))
        made = comfy.sample.sample(
            model,
            noise,
            how.steps,
            adapter.family.settings.cfg,
            SAMPLER,
            SCHEDULER,
            positive,
            negative,
            latent,
            seed=how.seed,
            disable_pbar=True,
        )
        return encoders.vae.decode(made)[0].float().clamp(0, 1).cpu()


def sample_grid(teaching: Teaching, encoders: Encoders, pairs: Sequence[Pair], how: Sampling) -> Tensor:
    """Return a row for each pair: the reference, what the adapter makes of it, and the target, [1, H, W, 3]."""
    rows = []
    for pair in pairs:
        made = sampled(teaching, encoders, pair.condition(), pair.caption, pair.instructions[0], how)
        size = made.shape[:2]
        rows.append(torch.cat([fitted(pair.condition(), size), made, fitted(pair.target(), size)], 1))
    return torch.cat(rows)[None]


def one_of_each_task(pairs: Sequence[Pair]) -> list[Pair]:
    return list({pair.task: pair for pair in reversed(pairs)}.values())[::-1]


def _latent_shape(teaching: Teaching, encoders: Encoders) -> tuple[int, ...]:
    return teaching.base.latent_format.latent_channels, *(side // 8 for side in encoders.size)


def fitted(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a picture [H, W, 3] to another height and width."""
    return F.interpolate(picture.movedim(-1, 0)[None], size, mode="bilinear", antialias=True)[0].movedim(0, -1)
