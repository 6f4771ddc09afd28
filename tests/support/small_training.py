"""A small training: a golden case's model as the base, its adapter in training, its features as the images."""

from __future__ import annotations

from dataclasses import replace

import torch
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.batch import Batch, Conditioning, stack_conditioning
from ipadapter_instruct.models.training.frozen_base import FrozenBase
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import TrainingArguments
from torch import Tensor

from support import small_models
from support.golden_cases import golden_case

LATENT = (16, 24)


def frozen_base(family: str) -> FrozenBase:
    return FrozenBase(small_models.small_model(family), small_models.FAMILIES[family].family)


def trainable_adapter(family: str) -> TrainableAdapter:
    return TrainableAdapter(small_models.small_checkpoint(family))


def conditioning(family: str, branch: str = "full") -> Conditioning:
    """One row of a golden case's branch. Text of the denoiser: the positive's, or the negative's."""
    case = golden_case(family)
    text = "positive" if branch in ("full", "everything") else "negative"
    [[context, values]] = small_models.golden_conditioning(family, text)
    return Conditioning(*case.features(branch), context, values.get("pooled_output"))


class GoldenDataset:
    """Endless examples of a golden case, drawn, or of a few pairs that are always the same."""

    def __init__(self, family: str, pairs: int = 0):
        self.family, self.unconditional = family, conditioning(family, "uncond")
        self.channels = small_models.small_model(family).model.latent_format.latent_channels
        self.pairs = [self._drawn(torch.Generator().manual_seed(pair)) for pair in range(pairs)]

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        if self.pairs:
            drawn = torch.randint(len(self.pairs), (count,), generator=generator).tolist()
            rows = [self.pairs[number] for number in drawn]
        else:
            rows = [self._drawn(generator) for _ in range(count)]
        latents = torch.cat([row.latents for row in rows])
        return Batch(latents, stack_conditioning([row.conditioning for row in rows]))

    def _drawn(self, generator: torch.Generator) -> Batch:
        one = conditioning(self.family)
        features = one.image_features + torch.randn(one.image_features.shape, generator=generator)
        latents = torch.randn(1, self.channels, *LATENT, generator=generator)
        return Batch(latents, replace(one, image_features=features))


def trainer(family: str, pairs: int = 0, **arguments) -> Trainer:
    """Small steps on a golden case."""
    given = {"max_train_steps": 4, "batch_size": 2, "learning_rate": 1e-3, "lr_warmup_steps": 0, **arguments}
    dataset = GoldenDataset(family, pairs)
    return Trainer(trainable_adapter(family), frozen_base(family), dataset, TrainingArguments(**given), Accelerator())


def weights(model) -> dict[str, Tensor]:
    """Copies of a ModelPatcher's or module's weights."""
    module = getattr(model, "model", model)
    return {name: weight.clone() for name, weight in module.state_dict().items()}
