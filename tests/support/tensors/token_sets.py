"""Made-up sets of image tokens, and their comparison bit for bit."""

import torch
from ipadapter_instruct.models.encoding.combining import ImageTokens
from ipadapter_instruct.models.guidance.branches import Branch, Branches

T, D = 3, 5


def tokens(references: int = 1, seed: int = 1) -> Branches:
    """[references, T, D] for each branch, different everywhere."""
    made = torch.Generator().manual_seed(seed)
    return Branches(*(torch.randn(references, T, D, generator=made) for _ in Branch))


def of(references: int = 1, seed: int = 1, weights: torch.Tensor | None = None) -> ImageTokens:
    """Such tokens, with weights on them or without."""
    return ImageTokens(tokens(references, seed), weights)


def same_branches(found: Branches, expected: Branches) -> None:
    for branch, values in expected.items():
        torch.testing.assert_close(found[branch], values, rtol=0, atol=0)


def same(found: ImageTokens, expected: ImageTokens) -> None:
    same_branches(found.branches, expected.branches)
    assert (found.weights is None) == (expected.weights is None)
    if expected.weights is not None:
        torch.testing.assert_close(found.weights, expected.weights, rtol=0, atol=0)
