"""Small lessons: a golden case's model as the base, its adapter as the learner, its features as the pictures."""

from __future__ import annotations

import torch
from ipadapter_instruct.models.training.accelerator import OneDevice
from ipadapter_instruct.models.training.batch import Batch, Seen, stacked
from ipadapter_instruct.models.training.frozen_base import FrozenBase
from ipadapter_instruct.models.training.recipe import Recipe
from ipadapter_instruct.models.training.trainable_adapter import LearningAdapter
from ipadapter_instruct.models.training.trainer import Teaching
from torch import Tensor

from support import small_models
from support.golden_cases import golden_case

LATENT = (16, 24)


def base(family: str) -> FrozenBase:
    return FrozenBase(small_models.small_model(family), small_models.FAMILIES[family].family)


def learner(family: str) -> LearningAdapter:
    return LearningAdapter(small_models.small_checkpoint(family))


def seen(family: str, branch: str = "full") -> Seen:
    """What a golden case's branch is told; one row. Text of the denoiser: the positive's, or the negative's."""
    case = golden_case(family)
    text = "positive" if branch in ("full", "everything") else "negative"
    [[context, values]] = small_models.golden_conditioning(family, text)
    return Seen(*case.features(branch), context, values.get("pooled_output"))


class GoldenLessons:
    """Endless examples of a golden case, drawn, or of a few pairs that are always the same."""

    def __init__(self, family: str, pairs: int = 0):
        self.family, self.blank = family, seen(family, "uncond")
        self.channels = small_models.small_model(family).model.latent_format.latent_channels
        self.pairs = [self._drawn(torch.Generator().manual_seed(pair)) for pair in range(pairs)]

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        if self.pairs:
            drawn = torch.randint(len(self.pairs), (count,), generator=generator).tolist()
            rows = [self.pairs[number] for number in drawn]
        else:
            rows = [self._drawn(generator) for _ in range(count)]
        return Batch(torch.cat([row.latents for row in rows]), stacked([row.seen for row in rows]))

    def _drawn(self, generator: torch.Generator) -> Batch:
        one = seen(self.family)
        states = one.image_states + torch.randn(one.image_states.shape, generator=generator)
        rest = one.parts()[1:]
        return Batch(torch.randn(1, self.channels, *LATENT, generator=generator), Seen(states, *rest))


def teaching(family: str, pairs: int = 0, **recipe) -> Teaching:
    """Small steps on a golden case."""
    settings = {"steps": 4, "batch": 2, "rate": 1e-3, "warm_up": 0, **recipe}
    return Teaching(learner(family), base(family), GoldenLessons(family, pairs), Recipe(**settings), OneDevice())


def weights(model) -> dict[str, Tensor]:
    """Copies of a ModelPatcher's or module's weights."""
    module = getattr(model, "model", model)
    return {name: weight.clone() for name, weight in module.state_dict().items()}
