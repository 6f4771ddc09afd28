"""Pairs of a graph's image batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..encoding.pixels import check_image
from ..guidance.tasks import instructions_of
from .pairs import Pair

SIDE_MULTIPLE = 16  # a target's sides are multiples of it


@dataclass(frozen=True)
class ImagePairs:
    """The references [N, H, W, C] in 0..1, the targets that should come out of them, captions and instructions.

    captions: one for each, or one for all. instructions: phrasings of the one thing that is trained.
    """

    references: Tensor
    targets: Tensor
    captions: tuple[str, ...]
    instructions: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError unless they go together."""
        for images in (self.references, self.targets):
            check_image(images)
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
            raise ValueError("Write an instruction, such as: use the brush strokes. One was expected; there is none.")

    @classmethod
    def of_texts(cls, references: Tensor, targets: Tensor, captions: str, instruction: str) -> ImagePairs:
        """Take the captions and phrasings from lines of text; no line is one empty caption. Raises ValueError."""
        return cls(references, targets, _lines(captions) or ("",), _lines(instruction))

    @property
    def resolution(self) -> tuple[int, int]:
        """The targets' height and width in pixels, as multiples of SIDE_MULTIPLE."""
        sides = self.targets.shape[1:3]
        height, width = (max(SIDE_MULTIPLE, side // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in sides)
        return height, width

    def pairs(self) -> list[Pair]:
        instructions = instructions_of(self.instructions[0], self.instructions)
        captions = self.captions if len(self.captions) > 1 else self.captions * len(self.references)
        return [
            Pair(f"pair {n}", _image(reference), _image(target), caption, instructions[0], instructions)
            for n, (reference, target, caption) in enumerate(
                zip(self.references, self.targets, captions, strict=True), start=1
            )
        ]


def _image(rows: Tensor) -> Callable[[], Tensor]:
    return lambda: rows[..., :3].float().cpu()


def _lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text that hold something."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())
