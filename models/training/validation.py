"""Measure how far an adapter has come: a loss for each task on pairs it is not trained on, and images it makes.

Axes: B pairs, H and W of an image.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import comfy.sample
import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapter.checkpoint import recognise
from ..encoding.encode import AdapterWithEncoders, encode_references
from ..encoding.loaded_adapter import LoadedAdapter
from ..encoding.references import one_image
from ..encoding.text_encoder import conditionings
from ..encoding.tokens import Texts
from ..patching.apply import ApplySettings, apply_instruct
from .dataset import Encoders, PairDataset
from .frozen_base import PIXELS
from .loss_plot import loss_plot
from .pairs import Pair
from .trainer import Trainer

NOISE_SEED = 0
LEVELS = 4  # noise levels a pair
VALIDATION_BATCH = 8
VALIDATION_SHARE, FEWEST = 0.05, 20  # of a task's pairs, where it has at least so many
SAMPLER, SCHEDULER, SAMPLING_STEPS = "euler", "normal", 20
SAMPLE_WEIGHT = 1.0


def validation_split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return pairs to train on and pairs to validate with: one in twenty of each task that has twenty or more."""
    training, validation, seen = [], [], Counter()
    counts = Counter(pair.task for pair in pairs)
    for pair in pairs:
        is_held_out = counts[pair.task] >= FEWEST and seen[pair.task] % round(1 / VALIDATION_SHARE) == 0
        (validation if is_held_out else training).append(pair)
        seen[pair.task] += 1
    return training, validation


def validation_losses(trainer: Trainer, dataset: PairDataset) -> dict[str, float]:
    """Return the averaged adapter's mean loss on each task's pairs, with noise that is always the same."""
    losses, base = {}, trainer.base
    with base.loaded(), torch.no_grad(), trainer.autocast():
        averaged = copy.deepcopy(trainer.adapter)
        averaged.load_state_dict(trainer.ema)
        for task in dataset.tasks:
            numbers = [n for n, pair in enumerate(dataset.pairs) if pair.task == task for _ in range(LEVELS)]
            generator, found = torch.Generator().manual_seed(NOISE_SEED), []
            for start in range(0, len(numbers), VALIDATION_BATCH):
                own = numbers[start : start + VALIDATION_BATCH]
                batch = dataset.examples([(n, dataset.pairs[n].instructions[0]) for n in own]).to(base.device)
                positions = (torch.arange(start, start + len(own)) % LEVELS + 0.5) / LEVELS
                noise = torch.randn(batch.latents.shape, generator=generator).to(base.device)
                sigmas = base.noise_levels(positions).to(base.device)
                found += base.losses(averaged, batch, noise, sigmas).tolist()
            losses[task] = sum(found) / len(found)
    return losses


def sample(trainer: Trainer, encoders: Encoders, pair: Pair) -> Tensor:
    """Sample the image [H, W, 3] that the averaged adapter makes of a pair's reference, as the pack's nodes do."""
    with torch.inference_mode():
        adapter = LoadedAdapter("in training", recognise(trainer.trained_weights()))
        clip = encoders.instruct_clip or encoders.clip
        loaded = AdapterWithEncoders(adapter, clip_vision=encoders.clip_vision)
        texts = Texts(pair.instructions[0], pair.caption, "")
        embeds = encode_references(loaded, clip, one_image(pair.reference()[None]), texts)
        settings = ApplySettings(weight=SAMPLE_WEIGHT, guidance="simple")
        model, _ = apply_instruct(trainer.base.patcher, embeds, settings)
        positive, negative = conditionings(encoders.clip, [pair.caption, ""])
        sides = (side // PIXELS for side in encoders.resolution)
        latent = torch.zeros(1, trainer.base.latent_format.latent_channels, *sides)
        seed = trainer.arguments.seed
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
        how = SAMPLING_STEPS, adapter.family.settings.cfg, SAMPLER, SCHEDULER
        samples = comfy.sample.sample(model, noise, *how, positive, negative, latent, seed=seed, disable_pbar=True)
        return encoders.vae.decode(samples)[0].float().clamp(0, 1).cpu()


def sample_grid(trainer: Trainer, encoders: Encoders, pairs: Sequence[Pair]) -> Tensor:
    """Return a row for each pair: the reference, what the adapter makes of it, and the target, [H, W, 3]."""
    rows = []
    for pair in pairs:
        made = sample(trainer, encoders, pair)
        rows.append(torch.cat([_fitted(pair.reference(), made), made, _fitted(pair.target(), made)], 1))
    return torch.cat(rows)


def preview(trainer: Trainer, encoders: Encoders, pair: Pair, losses: Sequence[float]) -> Any:
    """Return what the adapter makes of a pair's reference by now, beside the losses so far, as Pillow's image."""
    plot = loss_plot(losses)[0]
    return pil_image(torch.cat([_fitted(sample(trainer, encoders, pair), plot), plot], 1))


def pil_image(image: Tensor) -> Any:
    """Return an image [H, W, 3] in 0..1 as Pillow's."""
    from PIL import Image

    return Image.fromarray((image * 255).round().to(torch.uint8).cpu().numpy())


def _fitted(image: Tensor, other: Tensor) -> Tensor:
    """Resize an image [H, W, 3] to the height and width of another."""
    size = other.shape[:2]
    return F.interpolate(image.movedim(-1, 0)[None], size, mode="bilinear", antialias=True)[0].movedim(0, -1)
