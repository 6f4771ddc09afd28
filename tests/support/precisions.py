"""The precisions that models are kept in and computed in, and what each may cost of a prediction or a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from support import small_models


@dataclass(frozen=True)
class Precision:
    """A precision: of a model's weights, of what it computes in (None: the same), and what that may cost.

    Shares of the largest value. computing: against float32 computing with the same rounded weights. rounding: against
    the float32 model.
    """

    weights: torch.dtype
    compute: torch.dtype | None
    computing: float
    rounding: float

    def model(self, family: str, **settings):
        """The small model, its weights kept and computed as ComfyUI would."""
        return small_models.small_model(family, dtype=self.weights, compute=self.compute, **settings)


# Seen, the largest of the families: computing 4e-3 in fp16 and 4e-2 in bf16, and the rest from the weights' rounding.
PRECISIONS = {
    "fp32": Precision(torch.float32, None, 1e-5, 1e-5),
    "fp16": Precision(torch.float16, None, 0.01, 0.01),
    "bf16": Precision(torch.bfloat16, None, 0.08, 0.08),
    "fp16, computed in float32": Precision(torch.float16, torch.float32, 1e-5, 0.01),
    "bf16, computed in float32": Precision(torch.bfloat16, torch.float32, 1e-5, 0.05),
    "fp8, computed in float32": Precision(torch.float8_e4m3fn, torch.float32, 1e-5, 0.4),
    "fp8, computed in bf16": Precision(torch.float8_e4m3fn, torch.bfloat16, 0.08, 0.4),
}
