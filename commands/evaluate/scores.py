"""The paper's scores, and cosines of other embeddings: plain functions of a batch.

Axes: B images, D width of an embedding. Embeddings may have any length; each function gives B numbers, float64.

Source: arXiv 2408.03209, section 4.1; ClipScore with its factor: arXiv 2104.08718, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

CLIP_SCORE_FACTOR = 2.5


@dataclass(frozen=True)
class Score:
    """A column of the table. meaning: in words. higher: whether more is better. paper: the paper's tasks with it."""

    name: str
    meaning: str
    higher: bool = True
    paper: tuple[str, ...] = ()


NOT_REPLICATION = ("style", "object", "composition", "face")
SCORES = (
    Score("CLIP-I", "cosine of image and reference", paper=("everything", "object", "composition", "face")),
    Score("CLIP-T", "ClipScore of image and the reference's caption", paper=("everything",)),
    Score("CLIP-P", "ClipScore of image and prompt", paper=NOT_REPLICATION),
    Score("CLIP-S", "cosine of image minus prompt, and reference minus caption", paper=("style",)),
    Score("DINO", "cosine of image and reference by DINOv2"),
    Score("face", "cosine of the faces on image and reference"),
    Score("FID", "distance of the images' distribution from the references'", higher=False),
    Score("LPIPS", "distance between images made of one identity: how much they vary"),
    Score("CP", "concept preservation by the judge, as a share of 4"),
    Score("PF", "prompt following by the judge, as a share of 4"),
    Score("CP x PF", "the product of their means, by which DreamBench++ ranks"),
)


def unit(x: Tensor) -> Tensor:
    """Scale embeddings [B, D] to length 1."""
    x = x.double()
    return x / x.norm(dim=-1, keepdim=True)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of pairs of embeddings: CLIP-I of images and references, and those of DINO and faces."""
    return (unit(a) * unit(b)).sum(-1)


def clip_score(image: Tensor, text: Tensor) -> Tensor:
    """Return 2.5 max(cos, 0): CLIP-T with the reference's caption, CLIP-P with the prompt."""
    return CLIP_SCORE_FACTOR * cosine(image, text).clamp(min=0)


def clip_style(image: Tensor, prompt: Tensor, reference: Tensor, caption: Tensor) -> Tensor:
    """Return CLIP-S: the cosine of what an image has beyond its prompt, and a reference beyond its caption.

    The paper does not say whether embeddings have length 1 before they are subtracted; here they have, as in ClipScore.
    """
    return cosine(unit(image) - unit(prompt), unit(reference) - unit(caption))
