"""Every score of every image that was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .embeddings import Embeddings, Told
from .encoders import Encoder
from .libraries import pairs_of_identities
from .manifest import Manifest, Row
from .plan import Trial
from .scores import clip_score, clip_style, cosine


@dataclass(frozen=True)
class Image:
    """An image that was made, and the row it was made for."""

    key: str
    row: Row
    path: Path
    reference: Path


@dataclass(frozen=True)
class Sample:
    """One number of a score. unit: what is drawn again as a whole for intervals: a reference, or an identity."""

    unit: str
    value: float


@dataclass
class Scorers:
    """The means to score images; None where not asked for. face: NaN where there is none. fid, lpips: of files."""

    clip: Encoder | None = None
    dino: Encoder | None = None
    face: Encoder | None = None
    fid: Callable[[Sequence[Path], Sequence[Path]], float] | None = None
    lpips: Callable[[Path, Path], float] | None = None

    def encoders(self) -> dict[str, Encoder]:
        """Return the encoders by the scores that are theirs."""
        found = {"CLIP": self.clip, "DINO": self.dino, "face": self.face}
        return {name: encoder for name, encoder in found.items() if encoder}


@dataclass
class Scored:
    """Numbers by score and by image, from which each line of the table takes its own."""

    images: Mapping[str, Image]
    scorers: Scorers
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    def samples(self, trials: Sequence[Trial]) -> dict[str, list[Sample]]:
        """Return the samples of each score for one line of the table, in an order of their own."""
        images = [self.images[key] for key in sorted({trial.key for trial in trials})]
        found = {
            name: [Sample(image.row.reference, values[image.key]) for image in images if image.key in values]
            for name, values in self.values.items()
        }
        if self.scorers.lpips:
            pairs = pairs_of_identities((i.row.identity, i.path) for i in images if i.row.identity)
            found["LPIPS"] = [Sample(name, self.scorers.lpips(one, other)) for name, one, other in pairs]
        return found

    def frechet(self, trials: Sequence[Trial]) -> float | None:
        """Return FID for one line of the table; None where it has too little, or was not asked for."""
        images = [self.images[key] for key in sorted({trial.key for trial in trials})]
        references = sorted({image.reference for image in images})
        if self.scorers.fid is None or min(len(images), len(references)) < 2:
            return None
        return self.scorers.fid(references, [image.path for image in images])


def images_of(manifest: Manifest, trials: Sequence[Trial], files: Mapping[str, Path]) -> dict[str, Image]:
    """Return the images that are there, by key. files: those that were made, by key."""
    rows = {trial.key: trial.row for trial in trials}
    return {key: Image(key, row, files[key], manifest.path(row)) for key, row in rows.items() if key in files}


def scored(images: Mapping[str, Image], scorers: Scorers, cache: Path, tell: Told) -> Scored:
    """Score every image by itself. cache: a folder for embeddings."""
    found = Scored(images, scorers)
    ordered = [images[key] for key in sorted(images)]
    if scorers.clip:
        found.values |= _clip_scores(ordered, Embeddings(scorers.clip, cache, tell))
    for name, encoder in scorers.encoders().items():
        if name != "CLIP":
            made, references = _of_both(ordered, Embeddings(encoder, cache, tell))
            found.values[name] = _by_key(ordered, cosine(made, references))
    return found


def _clip_scores(images: Sequence[Image], embeddings: Embeddings) -> dict[str, dict[str, float]]:
    made, references = _of_both(images, embeddings)
    texts = embeddings.of_texts({text for i in images for text in (i.row.prompt, i.row.caption) if text})
    prompts = torch.stack([texts[image.row.prompt] for image in images])
    told = [place for place, image in enumerate(images) if image.row.caption]
    with_caption = [images[place] for place in told]
    found = {
        "CLIP-I": _by_key(images, cosine(made, references)),
        "CLIP-P": _by_key(images, clip_score(made, prompts)),
    }
    if told:
        captions = torch.stack([texts[image.row.caption] for image in with_caption])
        found["CLIP-T"] = _by_key(with_caption, clip_score(made[told], captions))
        found["CLIP-S"] = _by_key(with_caption, clip_style(made[told], prompts[told], references[told], captions))
    return found


def _of_both(images: Sequence[Image], embeddings: Embeddings) -> tuple[Tensor, Tensor]:
    made = embeddings.of_pictures(image.path for image in images)
    references = embeddings.of_pictures(image.reference for image in images)
    return torch.stack([made[i.path] for i in images]), torch.stack([references[i.reference] for i in images])


def _by_key(images: Sequence[Image], values: Tensor) -> dict[str, float]:
    found = zip((image.key for image in images), values.tolist(), strict=True)
    return {key: value for key, value in found if value == value}  # without a face there is none
