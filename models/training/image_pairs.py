"""Pairs of a graph's image batches."""

from functools import partial

from torch import Tensor

from ..encoding.pixels import check_image
from ..guidance.tasks import instructions_of
from .pairs import Pair

SIDE_MULTIPLE = 16  # a target's sides are multiples of it


def image_pairs(references: Tensor, targets: Tensor, captions: str, instruction: str) -> list[Pair]:
    """Return the pairs of references and targets [N, H, W, C] in 0..1, with the lines of two texts.

    captions: one for each pair, or one for all, or none. instruction: phrasings of the one thing that is trained.
    Raises ValueError unless they go together.
    """
    for images in (references, targets):
        check_image(images)
    count = len(references)
    if len(targets) != count:
        raise ValueError(
            f"As many targets as references were expected, {count}; they are {len(targets)}. Connect two "
            "batches in which the first target belongs to the first reference, and so on."
        )
    lines, given = _lines(captions) or [""], _lines(instruction)
    if len(lines) not in (1, count):
        raise ValueError(
            f"One caption for all {count} pairs, or a line for each, was expected; there are "
            f"{len(lines)} lines. Write what each target shows on a line of its own."
        )
    if not given:
        raise ValueError("Write an instruction, such as: use the brush strokes. One was expected; there is none.")
    instructions = instructions_of(given[0], given)
    rows = zip(references, targets, lines if len(lines) > 1 else lines * count, strict=True)
    return [
        Pair(f"pair {number}", partial(_rgb, reference), partial(_rgb, target), caption, instructions[0], instructions)
        for number, (reference, target, caption) in enumerate(rows, start=1)
    ]


def resolution_of(targets: Tensor) -> tuple[int, int]:
    """Return the height and width in pixels to train at, as multiples of SIDE_MULTIPLE."""
    height, width = (max(SIDE_MULTIPLE, side // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in targets.shape[1:3])
    return height, width


def _rgb(image: Tensor) -> Tensor:
    return image[..., :3].float().cpu()


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
