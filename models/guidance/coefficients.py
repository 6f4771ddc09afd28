"""Guidance over the four branches, as pure functions.

Predictions are noise or denoised latents alike: every set of coefficients here sums to one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .branches import Branch, Branches


@dataclass(frozen=True)
class HostCoefficients:
    """The coefficients of the branches in the host's two predictions, cond' and uncond'."""

    cond: Branches[float]
    uncond: Branches[float]


def host_coefficients(instruct_scale: float, image_scale: float, text_scale: float | None = None) -> HostCoefficients:
    """Split three-scale guidance into the two predictions a CFG sampler combines by itself.

    For every text scale w, uncond' + w (cond' - uncond') is uncond + instruct_scale (full - everything) +
    w (everything - image_only) + image_scale (image_only - uncond), so that the sampler's own cfg is the text scale and
    needs not be known here. A coefficient of zero is a branch that need not run.
    Source: unity-research/IP-Adapter-Instruct@57efbe4, the extra_cfg pipelines' denoising loop.

    text_scale: the sampler's cfg where it is known and nothing else looks at the two predictions. If it equals
    instruct_scale, `everything` cancels out of the sum, and is left out of both.
    """
    wi, wim = instruct_scale, image_scale
    in_cond, in_uncond = (1.0, 0.0) if text_scale == wi else (wi, wi)
    return HostCoefficients(
        cond=Branches(full=in_cond, everything=1 - in_cond, image_only=wim - 1, uncond=1 - wim),
        uncond=Branches(full=in_uncond, everything=-in_uncond, image_only=wim, uncond=1 - wim),
    )


def count_passes(instruct_scale: float, image_scale: float, text_scale: float | None = None) -> int:
    """Return how many branches a step runs in three-way guidance.

    text_scale: the sampler's cfg, None for no special one. At cfg 1 the sampler asks for the first of the two
    predictions alone.
    """
    coefficients = host_coefficients(instruct_scale, image_scale, text_scale)
    used = [coefficients.cond] if text_scale == 1 else [coefficients.cond, coefficients.uncond]
    return sum(any(one[branch] for one in used) for branch in Branch)
