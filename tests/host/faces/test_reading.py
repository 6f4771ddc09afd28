"""Faces found and read by the real insightface, whose models are small stand-ins with the published interfaces."""

from types import SimpleNamespace

import pytest
import torch

insightface = pytest.importorskip("insightface")
pytest.importorskip("onnx")

from insightface.app import FaceAnalysis  # noqa: E402
from insightface.utils import face_align  # noqa: E402
from ipadapter_instruct.models.reference.face_analysis import load_analysis  # noqa: E402
from support import face_models  # noqa: E402
from support.face_models import LARGE, SMALL, Mark, image_of  # noqa: E402
from support.node_runs.face_reading import bgr, directly, read  # noqa: E402
from support.refusals import refused  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("faces"),  # one process loads the models for all
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated"),  # insightface's own
]


# What is read


def test_the_largest_face_is_insightfaces_own_embedding_and_crop(analysis, incumbent):
    image = image_of([SMALL, LARGE])
    faces, crop = read(analysis, image).args
    expected = directly(incumbent, image)[0]

    assert torch.equal(faces.embeddings, torch.from_numpy(expected.embedding).unsqueeze(0))
    assert torch.allclose(faces.normed, torch.from_numpy(expected.normed_embedding).unsqueeze(0), atol=1e-6)
    aligned = face_align.norm_crop(bgr(image), landmark=expected.kps, image_size=224)
    assert torch.equal(crop, torch.from_numpy(aligned).flip(-1).unsqueeze(0) / 255)
    assert crop.shape == (1, 224, 224, 3)
    assert (crop[0, ..., 0] == 1).any() and not (crop[0, ..., 2] == 1).any()  # the red mark is in it, red


def test_all_faces_come_the_largest_first(analysis, incumbent):
    image = image_of([SMALL, LARGE, Mark(96, 480, reach=3)])
    faces, crops = read(analysis, image, which="all").args
    expected = directly(incumbent, image)

    assert len(expected) == 3
    assert torch.equal(faces.embeddings, torch.stack([torch.from_numpy(f.embedding) for f in expected]))
    assert crops.shape == (3, 224, 224, 3)
    assert torch.equal(faces.embeddings[:1], read(analysis, image).args[0].embeddings)


def test_another_packs_insightface_is_taken_and_left_as_it_was(analysis, incumbent):
    image, detector = image_of([SMALL, LARGE]), incumbent.det_model
    before = (detector.input_size, list(detector.input_sizes), incumbent.det_size)
    (found, _), (expected, _) = (read(each, image).args for each in (incumbent, analysis))

    assert torch.equal(found.embeddings, expected.embeddings)
    assert (detector.input_size, list(detector.input_sizes), incumbent.det_size) == before


def test_a_batch_is_its_pictures_one_by_one(analysis):
    pictures = [image_of([mark], seed=seed) for seed, mark in enumerate([SMALL, LARGE, Mark(256, 64)])]
    faces, crops = read(analysis, torch.cat(pictures)).args
    alone = [read(analysis, image).args for image in pictures]

    assert torch.equal(faces.embeddings, torch.cat([each.embeddings for each, _ in alone]))
    assert torch.equal(crops, torch.cat([crop for _, crop in alone]))


def test_photos_of_one_person_are_averaged_and_every_crop_is_kept(analysis):
    batch = torch.cat([image_of([mark]) for mark in (SMALL, LARGE)])
    each, crops = read(analysis, batch).args
    one, same_crops = read(analysis, batch, together="average").args

    assert torch.equal(one.embeddings, each.embeddings.mean(dim=0, keepdim=True))
    assert torch.equal(same_crops, crops)
    assert not torch.allclose(each.normed[0], each.normed[1], atol=0.01)


def test_an_alpha_channel_and_values_beyond_white_change_nothing(analysis):
    image = image_of([LARGE])
    bright = torch.where(image == 1, 1.5, image)
    with_alpha = torch.cat([image, torch.rand(1, 640, 640, 1)], dim=-1)
    expected = read(analysis, image).args[0].embeddings
    for other in (bright, with_alpha):
        assert torch.equal(read(analysis, other).args[0].embeddings, expected)


def test_a_picture_of_another_shape_is_read_where_its_face_is(analysis, incumbent):
    image = image_of([Mark(600, 200, reach=3, side=64)], width=1280, height=720)
    faces, _ = read(analysis, image).args
    assert torch.equal(faces.embeddings[0], torch.from_numpy(directly(incumbent, image)[0].embedding))


def test_the_embedding_names_its_recognition_model(analysis, incumbent):
    for each in (analysis, incumbent):
        assert read(each, image_of([LARGE])).args[0].recognition == "w600k_r50.onnx"


@pytest.mark.parametrize(("largest_input", "size"), [(640, 640), (639, 576), (500, 448), (256, 256)])
def test_a_face_too_large_at_first_is_found_at_a_smaller_size(tmp_path, largest_input, size):
    loaded = load_analysis(face_models.save_pack(tmp_path / "models" / "buffalo_l", largest_input))
    image = image_of([Mark(256, 256, reach=3, side=192)])
    output = read(loaded, image)
    boxes, landmarks = loaded.det_model.detect(bgr(image), input_size=(size, size))

    assert output.ui["text"][1].endswith(f"pixels, detected at {size}")
    largest = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax()
    expected = loaded.models["recognition"].get(bgr(image), insightface.app.common.Face(kps=landmarks[largest]))
    assert torch.equal(output.args[0].embeddings[0], torch.from_numpy(expected))


def test_the_node_says_what_was_found(analysis):
    batch = torch.cat([image_of([SMALL, LARGE]), image_of([SMALL])])
    assert read(analysis, batch, which="all", together="average").ui["text"] == (
        "3 face(s) of 2 picture(s) -> 1 embedding(s)",
        "picture 1: 257 x 257, 128 x 128 pixels, detected at 640",
        "picture 2: 128 x 128 pixels, detected at 640",
    )


def test_of_many_pictures_the_node_shows_the_first(analysis):
    said = read(analysis, image_of([SMALL]).expand(10, -1, -1, -1)).ui["text"]
    assert len(said) == 10
    assert said[-1] == "and 2 more"


# What cannot be read


def test_pictures_without_a_face_are_named_with_what_to_try(analysis):
    batch = torch.cat([image_of(marks) for marks in ([], [SMALL], [])])
    refused(
        lambda: read(analysis, batch),
        "A face was expected in each of the 3 picture(s); none was found in number 1, 3,",
        "from 640 down to 256",
        "Try a photo from the front",
    )


def test_pictures_of_nan_and_empty_batches_are_refused(analysis):
    refused(lambda: read(analysis, torch.full((1, 64, 64, 3), float("nan"))), "NaN or infinite", "VAE")
    refused(lambda: read(analysis, torch.zeros(0, 64, 64, 3)), "the image batch is empty")


def test_an_analysis_without_recognition_and_another_object_are_refused(packs):
    detection = FaceAnalysis(name="buffalo_l", root=str(packs), allowed_modules=["detection"])
    image = image_of([LARGE])
    refused(
        lambda: read(detection, image),
        "FaceAnalysis has no recognition",
        "Disconnect it and choose a model_pack such as buffalo_l",
    )
    refused(lambda: read(SimpleNamespace(), image), "SimpleNamespace has no detection and no recognition")


def test_a_recognition_model_of_another_width_is_refused(packs, tmp_path):
    folder = face_models.save_pack(tmp_path / "models" / "small")
    face_models.onnx.save(face_models.recognition_model(width=128), folder / "w600k_r50.onnx")
    refused(lambda: read(load_analysis(folder), image_of([LARGE])), "expected to be [faces, 512]; they are [1, 128]")


def test_two_recognition_models_read_a_face_differently(analysis, tmp_path):
    other = load_analysis(face_models.save_pack(tmp_path / "models" / "other", seed=1))
    found, expected = (read(each, image_of([LARGE])).args[0].normed for each in (other, analysis))
    assert abs(float((found * expected).sum())) < 0.5
