"""FID, LPIPS and faces of `cli.py evaluate`, by their libraries, with random weights where they would lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity.feature_extractor_inceptionv3 as inception
import torchmetrics
import torchvision
from ipadapter_instruct.commands.evaluate import libraries
from ipadapter_instruct.commands.evaluate.embeddings import Embeddings
from ipadapter_instruct.commands.evaluate.manifest import Row
from ipadapter_instruct.commands.evaluate.scoring import Image, Scorers, scored
from PIL import Image as PillowImage
from support.refusals import refused

face_models = pytest.importorskip("support.face_models")  # needs onnx
CLOSE = 1e-5
SIDE = 299  # what FID's network takes without resizing


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """torch's hub folder, with random weights of the shapes that libraries would fetch."""
    folder = tmp_path_factory.mktemp("hub")
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet().state_dict(), checkpoints / libraries.ALEXNET.file)
    before = inception.load_state_dict_from_url
    try:  # its class reads weights when it is made, which here are those it was drawn with
        inception.load_state_dict_from_url = lambda *_, **__: {}
        inception.FeatureExtractorInceptionV3.load_state_dict = lambda self, state: None
        network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    finally:
        inception.load_state_dict_from_url = before
        del inception.FeatureExtractorInceptionV3.load_state_dict
    for name, weight in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(weight)  # else nothing of a picture comes out
    torch.save(network.state_dict(), checkpoints / libraries.INCEPTION.file)
    return folder


@pytest.fixture(autouse=True)
def in_place(monkeypatch, hub):
    monkeypatch.setenv("TORCH_HOME", str(hub))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("pictures"), []
    for number in range(6):
        noise = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(number)) * (0.4 + 0.1 * number)
        paths.append(folder / f"{number}.png")
        PillowImage.frombytes("RGB", (SIDE, SIDE), (noise * 255).byte().numpy().tobytes()).save(paths[-1])
    return paths


def array(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(PillowImage.open(path)).copy()).permute(2, 0, 1).unsqueeze(0)


def test_fid_is_the_frechet_distance_of_torch_fidelitys_features(pictures):
    real, fake = pictures[:3], pictures[3:]
    found = libraries.frechet_distance("cpu")(real, fake)
    network = inception.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=libraries.INCEPTION.path()
    )
    means, deviations = [], []
    for paths in (real, fake):
        features = torch.cat([network(array(path))[0] for path in paths]).double().numpy()
        means.append(features.mean(0))
        deviations.append(features - means[-1])
    # tr((A B)^1/2) of covariances of three samples each is the sum of singular values of a 3 x 3 matrix
    scale = [rows / np.sqrt(len(rows) - 1) for rows in deviations]
    root = scipy.linalg.svdvals(scale[0] @ scale[1].T).sum()
    expected = ((means[0] - means[1]) ** 2).sum() + sum((rows**2).sum() for rows in scale) - 2 * root
    assert found == pytest.approx(expected, rel=CLOSE)
    assert expected > 0.1


def test_lpips_is_the_distance_of_alexnets_features_weighted_as_its_authors_do(pictures):
    found = libraries.perceptual_distance("cpu")(*pictures[:2])
    network = torchvision.models.alexnet()
    network.load_state_dict(torch.load(libraries.ALEXNET.path(), weights_only=True))
    weights = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    linear = torch.load(weights, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    streams = [(array(path) / 255 * 2 - 1 - shift) / scale for path in pictures[:2]]
    expected, layer = 0.0, 0
    with torch.no_grad():
        for step in network.features:
            streams = [step(x) for x in streams]
            if isinstance(step, torch.nn.ReLU):
                a, b = (x / x.norm(dim=1, keepdim=True) for x in streams)
                weight = linear[f"lin{layer}.model.1.weight"].view(1, -1, 1, 1)
                expected += float((weight * (a - b) ** 2).sum(1).mean())
                layer += 1
    assert layer == 5
    assert found == pytest.approx(expected, abs=CLOSE)
    assert expected > 0.001


def test_images_of_different_sizes_have_no_lpips(pictures, tmp_path):
    PillowImage.new("RGB", (200, 299)).save(tmp_path / "narrow.png")
    distance = libraries.perceptual_distance("cpu")
    refused(lambda: distance(pictures[0], tmp_path / "narrow.png"), "Images of one size were expected", "narrow.png")


@pytest.mark.parametrize(
    "weights, make", [("INCEPTION", libraries.frechet_distance), ("ALEXNET", libraries.perceptual_distance)]
)
def test_weights_that_are_not_there_are_named_and_not_fetched(monkeypatch, tmp_path, weights, make):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    missing = getattr(libraries, weights)
    refused(
        lambda: make("cpu"),
        f"{missing.file} was expected at {tmp_path}",
        "nothing is downloaded by itself",
        missing.url,
    )
    assert list(tmp_path.rglob("*.pth")) == []


def test_weights_that_carry_code_are_refused(monkeypatch, tmp_path):
    path = tmp_path / "hub" / "checkpoints" / libraries.INCEPTION.file
    path.parent.mkdir(parents=True)
    torch.save({"weights": refused}, path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Exception, match="weights_only|Unsupported"):
        libraries.frechet_distance("cpu")


def face(path: Path, *marks) -> Path:
    picture = (face_models.image_of(marks)[0] * 255).round().byte().numpy()
    PillowImage.fromarray(picture).save(path)
    return path


def test_faces_are_compared_as_insightface_does_and_images_without_one_have_no_score(tmp_path):
    from insightface.app import FaceAnalysis

    pack = face_models.save_pack(tmp_path / "root" / "models" / "buffalo_l")
    one, other = face_models.Mark(128, 128, turn=0.3), face_models.Mark(128, 128, turn=0.9)
    reference, alike = face(tmp_path / "reference.png", one), face(tmp_path / "alike.png", other)
    without = face(tmp_path / "without.png")
    row = Row("line 1", "reference.png", "face", (), "a man", 0)
    images = {name: Image(name, row, path, reference) for name, path in (("alike", alike), ("without", without))}
    found = scored(images, Scorers(face=libraries.face_encoder(pack)), tmp_path / "cache", lambda *_: None)

    analysis = FaceAnalysis(name=str(pack), root=str(tmp_path / "root"), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=0, det_size=(640, 640))
    bgr = [np.asarray(PillowImage.open(path).convert("RGB"))[..., ::-1].copy() for path in (reference, alike)]
    theirs = [analysis.get(picture)[0].normed_embedding for picture in bgr]
    assert found.values["face"] == {"alike": pytest.approx(float(theirs[0] @ theirs[1]), abs=CLOSE)}
    assert found.values["face"]["alike"] < 0.999


def test_a_folder_without_face_models_is_refused(tmp_path):
    refused(lambda: libraries.face_encoder(tmp_path), "insightface's models, .onnx files, were expected")


def test_every_two_images_of_an_identity_are_compared_and_none_of_two():
    named = [("bob", Path("b1")), ("ann", Path("a1")), ("ann", Path("a2")), ("ann", Path("a3")), ("cyd", Path("c"))]
    pairs = libraries.pairs_of_identities(named)
    assert [(name, a.name, b.name) for name, a, b in pairs] == [
        ("ann", "a1", "a2"),
        ("ann", "a1", "a3"),
        ("ann", "a2", "a3"),
    ]


def test_a_damaged_cache_is_filled_again(tmp_path, pictures):
    class Counting:
        name, asked = "counting", 0

        def images(self, pictures):
            self.asked += len(pictures)
            return torch.ones(len(pictures), 2)

    encoder = Counting()
    Embeddings(encoder, tmp_path, lambda *_: None).of_pictures(pictures)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    found = Embeddings(encoder, tmp_path, lambda *_: None).of_pictures(pictures)
    assert encoder.asked == 2 * len(pictures) and len(found) == len(pictures)
