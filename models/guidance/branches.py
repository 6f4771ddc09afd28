"""The four predictions a guided step is made of, and the texts each of them is given."""

from __future__ import annotations

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
    def in_simple_guidance(self) -> Branch:
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

    def map(self, function: Callable[[T], S]) -> Branches[S]:
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
