"""FID and LPIPS by torchmetrics, faces by insightface: where they and their weights are on disk.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...models.files.encoder_files import FACE_WIDTH
from .encoders import Encoder
from .pixels import opened, pixels

REQUIREMENTS = "requirements-evaluation.txt"


@dataclass(frozen=True)
class Weights:
    """A file that a library would fetch into torch's hub folder, which TORCH_HOME moves."""

    url: str
    file: str

    def path(self) -> Path:
        """Return where it is. Raises ValueError, which says where to get it, where it is not."""
        place = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        if not place.is_file():
            raise ValueError(
                f"{self.file} was expected at {place}; it is not there, and nothing is downloaded by itself. Get "
                f"{self.url} and save it there."
            )
        return place


INCEPTION = Weights(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "weights-inception-2015-12-05-6726825d.pth",
)
ALEXNET = Weights("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "alexnet-owt-7be5be79.pth")


def check_frechet_distance() -> Path:
    """Return where the weights of FID are. Raises ValueError where they or a package are not there."""
    _check_installed("torchmetrics", "torch_fidelity")
    return INCEPTION.path()


def check_perceptual_distance() -> None:
    """Raises ValueError where torchmetrics or the weights of LPIPS are not there."""
    _check_installed("torchmetrics")
    ALEXNET.path()


def frechet_distance(device: str) -> Callable[[Sequence[Path], Sequence[Path]], float]:
    """Return FID as torchmetrics computes it, between the files of references and of images, two or more of each.

    Raises ValueError where torchmetrics, torch-fidelity or the weights are not there.
    """
    path = check_frechet_distance()
    from torchmetrics.image.fid import FrechetInceptionDistance

    torch.load(path, weights_only=True)  # raises for a pickle that would run code, as torch-fidelity lets it
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(path)).to(device)

    def distance(references: Sequence[Path], images: Sequence[Path]) -> float:
        metric.reset()
        for real, paths in ((True, references), (False, images)):
            for file in paths:  # of any size, one by one
                metric.update((pixels(opened(file)) * 255).round().byte().unsqueeze(0).to(device), real=real)
        return float(metric.compute())

    return distance


def perceptual_distance(device: str) -> Callable[[Path, Path], float]:
    """Return LPIPS (AlexNet) as torchmetrics computes it, between two files of one size.

    Raises ValueError where torchmetrics or the weights are not there.
    """
    check_perceptual_distance()
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)

    @torch.no_grad()
    def distance(one: Path, other: Path) -> float:
        a, b = (pixels(opened(file)).unsqueeze(0).to(device) for file in (one, other))
        if a.shape != b.shape:
            raise ValueError(
                f"Images of one size were expected for LPIPS; {one.name} and {other.name} differ in theirs."
            )
        return float(metric(a, b))

    return distance


def pairs_of_identities(named: Iterable[tuple[str, Path]]) -> list[tuple[str, Path, Path]]:
    """Return every two images of one identity, from (identity, image) in order."""
    people: dict[str, list[Path]] = {}
    for name, path in named:
        people.setdefault(name, []).append(path)
    return [(name, *two) for name, paths in sorted(people.items()) for two in itertools.combinations(paths, 2)]


def face_encoder(folder: Path) -> Encoder:
    """Return what gives the largest face of each picture as ArcFace's [512]; NaN where there is none.

    folder: insightface's models. Raises ValueError where insightface or its models are not there.
    """
    from ...models.reference.face_analysis import load_analysis, see_faces

    if not list(folder.glob("*.onnx")):
        raise ValueError(f"insightface's models, .onnx files, were expected in {folder}; there are none.")
    analysis = load_analysis(folder)

    def face(picture: Image) -> Tensor:
        try:
            return see_faces(analysis, pixels(picture).movedim(0, -1).unsqueeze(0))[0][0].embedding
        except ValueError:
            return torch.full((FACE_WIDTH,), torch.nan)

    def images(pictures: Sequence[Image]) -> Tensor:
        return torch.stack([face(picture) for picture in pictures])

    return Encoder(f"insightface {folder.name}", images)


def _check_installed(*packages: str) -> None:
    missing = [name.replace("_", "-") for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} should be installed, which this score needs. Run: pip install -r {REQUIREMENTS}"
        )
