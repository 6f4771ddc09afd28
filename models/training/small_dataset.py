"""Teach on a few pairs that a graph holds, with whatever watches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from ..adapter.checkpoint import AdapterCheckpoint
from ..encoding.pixels import check_image
from ..guidance.task_phrasings import instructions_of
from .accelerator import OneDevice
from .dataset import Encoders, Progress, encoded
from .frozen_base import FrozenBase, family_to_teach
from .initial_checkpoint import Shape, begun
from .pairs import Pair
from .recipe import Recipe
from .state_cache import StateStore
from .trainable_adapter import LearningAdapter
from .trainer import Report, Teaching
from .validation import Sampling, sampled

SIDE_MULTIPLE = 16  # a target's sides are multiples of it


@dataclass(frozen=True)
class SmallSet:
    """The references [N, H, W, C] in 0..1, the targets that should come out of them, captions and instructions.

    captions: one for each, or one for all. instructions: phrasings of the one thing that is taught.
    """

    references: Tensor
    targets: Tensor
    captions: tuple[str, ...]
    instructions: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError unless they go together."""
        for pictures in (self.references, self.targets):
            check_image(pictures)
        count = len(self.references)
        if len(self.targets) != count:
            raise ValueError(
                f"As many targets as references were expected, {count}; they are {len(self.targets)}. Connect two "
                "batches in which the first target belongs to the first reference, and so on."
            )
        if len(self.captions) not in (1, count):
            raise ValueError(
                f"One caption for all {count} pairs, or a line for each, was expected; there are "
                f"{len(self.captions)} lines. Write what each target shows on a line of its own."
            )
        if not self.instructions:
            raise ValueError("An instruction was expected, such as: use the brush strokes. There is none. Write one.")

    @property
    def size(self) -> tuple[int, int]:
        """The targets' height and width in pixels, as multiples of SIDE_MULTIPLE."""
        sides = self.targets.shape[1:3]
        height, width = (max(SIDE_MULTIPLE, side // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in sides)
        return height, width

    def pairs(self) -> list[Pair]:
        instructions = instructions_of(self.instructions[0], self.instructions)
        captions = self.captions if len(self.captions) > 1 else self.captions * len(self.references)
        return [
            Pair(f"pair {n}", _picture(reference), _picture(target), caption, instructions[0], instructions)
            for n, (reference, target, caption) in enumerate(
                zip(self.references, self.targets, captions, strict=True), start=1
            )
        ]


def _picture(rows: Tensor):
    return lambda: rows[..., :3].float().cpu()


class SmallTeaching:
    """A run on a small set. start: an adapter, or a shape of a new one."""

    def __init__(
        self, model, encoders: Encoders, small_set: SmallSet, start: AdapterCheckpoint | Shape, recipe: Recipe
    ):
        """Raises ValueError for a model that cannot be taught on, and an adapter that does not fit it."""
        family = family_to_teach(model)
        self.base = FrozenBase(model, family, recipe.dtype)
        self._start = begun(start, family, self.base.sites, self.base.own, recipe.seed)
        self._encoders, self._recipe, self._pairs = encoders, recipe, small_set.pairs()
        self.teaching: Teaching | None = None

    def run(self, states: Path, progress: Progress) -> Iterator[Report]:
        """Encode what is not in the folder `states` yet, then yield one report for every step."""
        lessons = encoded(self._pairs, self._encoders, self.base, StateStore(states), progress)
        self.teaching = Teaching(LearningAdapter(self._start), self.base, lessons, self._recipe, OneDevice())
        yield from self.teaching.run()

    def sample(self) -> Tensor:
        """Return what the adapter makes of the first pair by now, [H, W, 3]."""
        pair: Pair = self._pairs[0]
        how = Sampling(seed=self._recipe.seed)
        teaching = cast(Teaching, self.teaching)  # which `run` has begun
        return sampled(teaching, self._encoders, pair.condition(), pair.caption, pair.instructions[0], how)


def lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of a text that hold something."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def captions_of(text: str) -> Sequence[str]:
    """Return the captions, as `lines_of` does; an empty text is one empty caption."""
    return lines_of(text) or ("",)
