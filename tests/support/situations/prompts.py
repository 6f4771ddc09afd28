"""Positives as the host's nodes make them: where, when and how strongly each acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import comfy.hooks
import comfy.samplers
import torch
from torch import Tensor

import nodes as host_nodes
from support import small_models
from support.sampling.scenes import text


@dataclass(frozen=True)
class Prompt:
    """A positive: its text, and where, when and how strongly it acts. area: height, width, top, left, of the latent."""

    name: str
    span: tuple[float, float] = (0.0, 1.0)
    mask: Tensor | None = None
    strength: float = 1.0
    area: tuple[int, int, int, int] | None = None
    lora: float = 0.0
    is_default: bool = False

    @property
    def alone(self) -> Prompt:
        """The same everywhere and always; an area stays what the model sees of the picture, with its edges' mask."""
        mask = None if self.area is None else self.mask
        return replace(self, span=(0.0, 1.0), mask=mask, strength=1.0, is_default=False)

    def condition(self, family: str) -> list:
        """The prompt as a condition, made by the host's nodes."""
        own = text(self.name, family)
        cond = [[own.context, dict(own.values)]]
        if self.span != (0.0, 1.0):
            cond = host_nodes.ConditioningSetTimestepRange().set_range(cond, *self.span)[0]
        if self.mask is not None:
            cond = host_nodes.ConditioningSetMask().append(cond, self.mask, "default", self.strength)[0]
        if self.area is not None:
            height, width, top, left = (8 * side for side in self.area)
            cond = host_nodes.ConditioningSetArea().append(cond, width, height, left, top, self.strength)[0]
        if self.lora:
            cond = comfy.hooks.set_hooks_for_conditioning(cond, hooks=lora_hook(family, self.lora))
        if self.is_default:
            cond = comfy.hooks.set_default_conds_and_combine([[]], [cond])[0]
        return cond

    def acts(self, sampling, level: Tensor) -> bool:
        """At a noise level, one number in float32."""
        return has_begun(sampling, level, self.span[0]) and not is_over(sampling, level, self.span[1])

    def weight(self, size: tuple[int, int]) -> Tensor:
        """[H, W], where the prompt acts. An area is expected to have a mask, and so no fading edges."""
        here = torch.ones(size) if self.mask is None else self.mask[0].clone()
        if self.area is not None:
            height, width, top, left = self.area
            inside = torch.zeros(size)
            inside[top : top + height, left : left + width] = 1
            here = here * inside
        return here * (self.strength if self.mask is not None or self.area is not None else 1.0)


def lora_hook(family: str, strength: float):
    """A LoRA on one layer that each of the small models has."""
    layer = {"sd3": "joint_blocks.1.x_block.attn.proj"}.get(family, "time_embed.2")
    made = torch.Generator().manual_seed(1)
    weight = small_models.small_model(family).model.state_dict()[f"diffusion_model.{layer}.weight"]
    parts = {"up": (weight.shape[0], 2), "down": (2, weight.shape[1])}
    lora = {f"diffusion_model.{layer}.lora_{n}.weight": torch.randn(s, generator=made) for n, s in parts.items()}
    return comfy.hooks.create_hook_lora(lora, strength, 0.0)


def weights(prompts: Sequence[Prompt], size: tuple[int, int], sampling, level: Tensor) -> list[Tensor | None]:
    """The share of each prompt, [H, W]; None for one that does not act. A default has what the others leave."""
    acts = [prompt.acts(sampling, level) for prompt in prompts]
    own = [p.weight(size) if a and not p.is_default else None for p, a in zip(prompts, acts, strict=True)]
    rest = (1 - sum((w for w in own if w is not None), torch.zeros(size))).clamp(min=0)
    return [rest if p.is_default and a else w for p, a, w in zip(prompts, acts, own, strict=True)]


# What the host itself says of a noise level


def has_begun(sampling, level: Tensor, fraction: float) -> bool:
    """Whether a condition from this fraction of the schedule on acts."""
    return _host_acts(level, timestep_start=sampling.percent_to_sigma(fraction))


def is_over(sampling, level: Tensor, fraction: float) -> bool:
    """Whether a condition until this fraction acts no more."""
    return not _host_acts(level, timestep_end=sampling.percent_to_sigma(fraction))


def _host_acts(level: Tensor, **ends) -> bool:
    cond = {**ends, "model_conds": {}, "uuid": None}
    return comfy.samplers.get_area_and_mult(cond, torch.zeros(1, 4, 8, 8), level[None]) is not None
