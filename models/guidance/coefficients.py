"""Guidance over the four branches, as pure functions.

Predictions are noise or denoised latents alike: every set of coefficients here sums to one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .branches import Branch, Branches


@dataclass(frozen=True)
class GuidanceScales:
    """The factors by which the ladder's rungs are stretched; 1 leaves a rung as it is, equal ones are plain CFG."""

    text: float
    instruct: float
    image: float


@dataclass(frozen=True)
class HostCoefficients:
    """The coefficients of the branches in the host's two predictions, cond' and uncond'."""

    cond: Branches[float]
    uncond: Branches[float]


def combine_branches(predictions: Branches[Tensor], scales: GuidanceScales) -> Tensor:
    """Return three-scale guidance over four predictions, each [B, C, H, W].

    Source: unity-research/IP-Adapter-Instruct@57efbe4, the extra_cfg pipelines' denoising loop.
    """
    p = predictions
    return (
        p.uncond
        + scales.instruct * (p.full - p.everything)
        + scales.text * (p.everything - p.image_only)
        + scales.image * (p.image_only - p.uncond)
    )


def simple_guidance(full: Tensor, uncond: Tensor, text_scale: float) -> Tensor:
    """Return classifier-free guidance, each [B, C, H, W]. Source: Ho and Salimans, arXiv 2207.12598."""
    return uncond + text_scale * (full - uncond)


def host_coefficients(instruct_scale: float, image_scale: float, text_scale: float | None = None) -> HostCoefficients:
    """Split `combine_branches` into the two predictions a CFG sampler combines by itself.

    For every text scale w, uncond' + w (cond' - uncond') is `combine_branches`, so that the sampler's
    own cfg is the text scale and needs not be known here. A coefficient of zero is a branch that need not run.

    text_scale: the sampler's cfg where it is known and nothing else looks at the two predictions. If it equals
    instruct_scale, `everything` cancels out of the sum, and is left out of both.
    """
    wi, wim = instruct_scale, image_scale
    if text_scale == wi:
        return HostCoefficients(
            cond=Branches(full=1.0, everything=0.0, image_only=wim - 1, uncond=1 - wim),
            uncond=Branches(full=0.0, everything=0.0, image_only=wim, uncond=1 - wim),
        )
    return HostCoefficients(
        cond=Branches(full=wi, everything=1 - wi, image_only=wim - 1, uncond=1 - wim),
        uncond=Branches(full=wi, everything=-wi, image_only=wim, uncond=1 - wim),
    )


def count_passes(instruct_scale: float, image_scale: float, text_scale: float | None = None) -> int:
    """Return how many branches a step runs in three-way guidance.

    text_scale: the sampler's cfg, None for no special one. At cfg 1 the sampler asks for the first of the two
    predictions alone.
    """
    coefficients = host_coefficients(instruct_scale, image_scale, text_scale)
    used = [coefficients.cond] if text_scale == 1 else [coefficients.cond, coefficients.uncond]
    return sum(any(one[branch] for one in used) for branch in Branch)
