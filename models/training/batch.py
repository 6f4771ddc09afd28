"""The batch of pairs that an adapter is trained on at one step.

Axes: B pairs, N image patches and class token, L text tokens, M text tokens of the denoiser, D width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..encoding.features import stacked
from .training_arguments import TrainingArguments


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The inputs of the adapter and the denoiser for B pairs, besides the noisy latents.

    image_features: of the reference, [B, N, D]. instruct_embeds, prompt_embeds: the resampler's texts, [B, L, D].
    context: the denoiser's own text tokens, [B, M, D]; pooled_output: its pooled text, [B, D], None where it has none.
    """

    image_features: Tensor
    instruct_embeds: Tensor
    prompt_embeds: Tensor
    context: Tensor
    pooled_output: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_features)

    def to(self, device: torch.device) -> "Conditioning":
        """Return it on a device in float32, in which the resampler computes, as when it samples."""
        return Conditioning(**{name: x.to(device, torch.float32) for name, x in vars(self).items() if x is not None})


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of pairs: latents of the targets, [B, C, h, w] as the denoiser has them, and their conditioning."""

    latents: Tensor
    conditioning: Conditioning

    def to(self, device: torch.device) -> "Batch":
        """Return it on a device in float32."""
        return Batch(self.latents.to(device, torch.float32), self.conditioning.to(device))


def drop_conditioning(
    given: Conditioning, unconditional: Conditioning, arguments: TrainingArguments, generator: torch.Generator
) -> Conditioning:
    """Drop the texts of some pairs, the image of some, and both of some, for classifier-free guidance.

    Texts are the prompt, for the resampler and the denoiser, and the instruction.
    """
    drawn = torch.rand(len(given), generator=generator)
    both = arguments.ti_drop_rate
    text = both + arguments.t_drop_rate
    without_text = drawn < text
    without_image = (drawn < both) | ((drawn >= text) & (drawn < arguments.drop_rate))
    context, no_context = same_length(given.context, unconditional.context)
    given, unconditional = replace(given, context=context), replace(unconditional, context=no_context)

    def dropped(name: str, part: Tensor) -> Tensor:
        where = without_image if name == "image_features" else without_text
        where = where.to(part.device).view(-1, *(1,) * (part.ndim - 1))
        return torch.where(where, getattr(unconditional, name).to(part), part)

    return Conditioning(**{name: dropped(name, part) for name, part in vars(given).items() if part is not None})


def same_length(*contexts: Tensor) -> list[Tensor]:
    """Repeat text tokens until all are equally many, which attention does not notice; as the host batches them."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [context.repeat(1, length // context.shape[1], 1) for context in contexts]


def stack_conditioning(rows: Sequence[Conditioning]) -> Conditioning:
    """Stack the conditioning of pairs, one after another."""
    contexts = same_length(*(row.context for row in rows))
    return stacked([replace(row, context=context) for row, context in zip(rows, contexts, strict=True)])
