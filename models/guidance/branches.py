"""The four predictions a guided step is made of: the texts each of them is given, and how they add up.

Predictions are noise or denoised latents alike: every set of coefficients here sums to one.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")

EVERYTHING_INSTRUCTION = "everything"


class Branch(enum.Enum):
    """One rung of the ladder uncond -> image_only -> everything -> full."""

    FULL = "full"
    EVERYTHING = "everything"
    IMAGE_ONLY = "image_only"
    UNCOND = "uncond"

    @property
    def is_conditional(self) -> bool:
        """True when the branch counts as cond to the host, which knows cond and uncond alone."""
        return self in (Branch.FULL, Branch.EVERYTHING)

    @property
    def in_simple_guidance(self) -> "Branch":
        """The branch whose tokens an adapter in simple mode uses when this branch runs."""
        return Branch.FULL if self.is_conditional else Branch.UNCOND


@dataclass(frozen=True)
class Branches(Generic[T]):
    """One value for each branch."""

    full: T
    everything: T
    image_only: T
    uncond: T

    def __getitem__(self, branch: Branch) -> T:
        return getattr(self, branch.value)

    def items(self) -> Iterator[tuple[Branch, T]]:
        return ((branch, self[branch]) for branch in Branch)

    def map(self, function: Callable[[T], S]) -> "Branches[S]":
        return Branches(*(function(value) for _, value in self.items()))


@dataclass(frozen=True)
class ResamplerTexts:
    """The two texts that a branch gives the resampler: an instruction and a prompt."""

    instruct: str
    prompt: str


def branch_texts(
    instruction: str, prompt: str, negative_prompt: str, negative_instruction: str = ""
) -> Branches[ResamplerTexts]:
    """Return the resampler's texts for each branch. SDXL passes "" as `negative_prompt` (see `Family`).

    negative_instruction: what to leave behind, which the reference does not know. It is told to the branches that
    guidance moves away from: image_only in three-way guidance, uncond in simple guidance.

    Source: unity-research/IP-Adapter-Instruct@57efbe4, `get_image_embeds` of the extra_cfg pipelines.
    """
    return Branches(
        full=ResamplerTexts(instruction, prompt),
        everything=ResamplerTexts(EVERYTHING_INSTRUCTION, prompt),
        image_only=ResamplerTexts(negative_instruction or negative_prompt, negative_prompt),
        uncond=ResamplerTexts(negative_instruction, negative_prompt),
    )


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
