"""The nearest other wording, by which tasks can be told apart, and embeddings in two dimensions.

Axes: N wordings, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .wordings import Wording

ROWS_AT_ONCE = 1024  # of the table of similarities at once


@dataclass(frozen=True)
class Found:
    """A wording, and the one of all others that is nearest."""

    wording: Wording
    nearest: Wording

    @property
    def is_with_its_task(self) -> bool:
        return self.wording.task == self.nearest.task


def nearest_others(wordings: Sequence[Wording], embeddings: Tensor) -> list[Found]:
    """Return for each wording the nearest other, by the cosine of their embeddings [N, D]."""
    unit = embeddings.double() / embeddings.double().norm(dim=-1, keepdim=True)
    places = []
    for start in range(0, len(unit), ROWS_AT_ONCE):
        similar = unit[start : start + ROWS_AT_ONCE] @ unit.T
        similar[torch.arange(len(similar)), torch.arange(start, start + len(similar))] = -2  # itself
        places += similar.argmax(1).tolist()
    return [Found(wording, wordings[place]) for wording, place in zip(wordings, places, strict=True)]


def share_right(found: Sequence[Found]) -> float:
    """Return the share of wordings whose nearest other is of their own task."""
    return sum(one.is_with_its_task for one in found) / len(found)


def principal_components(embeddings: Tensor) -> tuple[Tensor, str]:
    """Return embeddings in two dimensions [N, 2] by PCA, and how much of their variance that is, in words.

    Of two turns of an axis the one is taken whose largest value is positive, so that maps can be compared.
    """
    centred = embeddings.double() - embeddings.double().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * values[:2]
    points *= torch.sign(points[points.abs().argmax(0), torch.arange(2)])
    kept = values[:2].square().sum() / values.square().sum()
    return points, f"PCA, {kept:.0%} of the variance"


def neighbour_embedding(embeddings: Tensor) -> tuple[Tensor, str]:
    """Return embeddings in two dimensions [N, 2] by t-SNE. Raises ValueError where scikit-learn is not installed."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError(
            "scikit-learn was expected for tsne; it is not installed. Run: pip install scikit-learn, or take pca."
        ) from None
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    made = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
    return torch.from_numpy(made.fit_transform(embeddings.float().numpy())).double(), "t-SNE"
