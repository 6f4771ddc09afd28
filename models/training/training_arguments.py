"""The arguments of a training run, by the names that trainers use, and the learning rate at every step."""

import math
from dataclasses import dataclass

import torch

from ..messages import check_choice, check_numbers

NO, BF16 = "no", "bf16"
MIXED_PRECISIONS = (NO, BF16)
MIN_LR_RATIO = 0.01  # of the highest learning rate
LARGEST_NUMBER, SMALLEST_NUMBER = 1e9, 1e-12


@dataclass(frozen=True)
class TrainingArguments:
    """The numbers that say how long and how fast an adapter is trained, and what is dropped.

    Source: arXiv 2308.06721 section 4.1; arXiv 2408.03209 section 4; names as in tencent-ailab/IP-Adapter@20c84fe,
    tutorial_train.py, and in the training examples of diffusers.
    """

    max_train_steps: int  # changes of the weights
    batch_size: int = 8  # pairs in one pass, in each process
    gradient_accumulation_steps: int = 1  # passes before a change
    learning_rate: float = 1e-4  # the highest, after the warmup; from there half a cosine goes down to a hundredth
    lr_warmup_steps: int = 100
    weight_decay: float = 0.01  # AdamW's
    max_grad_norm: float = 1.0  # longer gradients are clipped
    ema_decay: float = 0.999  # how much of the averaged weights each step keeps
    t_drop_rate: float = 0.05  # the share of examples without text, for classifier-free guidance
    i_drop_rate: float = 0.05  # without image
    ti_drop_rate: float = 0.05  # without both
    mixed_precision: str = NO  # accelerate's word; the base computes in it
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that nothing can be trained with."""
        check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISIONS)
        counts = ("max_train_steps", "batch_size", "gradient_accumulation_steps")
        check_numbers(1, LARGEST_NUMBER, **{name: getattr(self, name) for name in counts})
        check_numbers(0, LARGEST_NUMBER, lr_warmup_steps=self.lr_warmup_steps)
        check_numbers(SMALLEST_NUMBER, 1, learning_rate=self.learning_rate)
        check_numbers(SMALLEST_NUMBER, LARGEST_NUMBER, max_grad_norm=self.max_grad_norm)
        shares = ("weight_decay", "ema_decay", "t_drop_rate", "i_drop_rate", "ti_drop_rate")
        check_numbers(0, 1, **{name: getattr(self, name) for name in shares}, the_drop_rates_together=self.drop_rate)

    @property
    def drop_rate(self) -> float:
        """The share of examples without something."""
        return self.t_drop_rate + self.i_drop_rate + self.ti_drop_rate

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the base computes in."""
        return torch.bfloat16 if self.mixed_precision == BF16 else torch.float32

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate at a step, the first being 0."""
        if step < self.lr_warmup_steps:
            return self.learning_rate * (step + 1) / self.lr_warmup_steps
        position = (step - self.lr_warmup_steps) / max(1, self.max_train_steps - self.lr_warmup_steps)
        cosine = 0.5 + 0.5 * math.cos(math.pi * position)
        return self.learning_rate * (MIN_LR_RATIO + (1 - MIN_LR_RATIO) * cosine)

    def ema_decay_at(self, step: int) -> float:
        """Return how much of the average a step keeps: little at first, when there is not much to average."""
        return min(self.ema_decay, (1 + step) / (10 + step))
