"""Faces found and read by the real insightface, whose models are small stand-ins with the published interfaces."""

import socket
import sys
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from support.pack_nodes import run_node

insightface = pytest.importorskip("insightface")
pytest.importorskip("onnx")

from insightface.app import FaceAnalysis  # noqa: E402
from insightface.utils import face_align  # noqa: E402
from ipadapter_instruct.models.reference import face_analysis  # noqa: E402
from ipadapter_instruct.models.reference.face_analysis import find_packs, load_analysis, see_faces  # noqa: E402
from ipadapter_instruct.nodes.faces.load_face import IPAdapterInstructLoadFace  # noqa: E402
from ipadapter_instruct.nodes.faces.read_face import IPAdapterInstructReadFace  # noqa: E402
from support import face_models  # noqa: E402
from support.face_models import Mark, image_of  # noqa: E402
from support.refusals import refused  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("faces"),  # one process loads the models for all
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated"),  # insightface's own
]

SMALL, LARGE = Mark(128, 128, reach=2, turn=0.3), Mark(384, 320, reach=4, turn=0.8)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """models/insightface with a stand-in for buffalo_l."""
    root = tmp_path_factory.mktemp("insightface")
    face_models.save_pack(root / "models" / "buffalo_l")
    return root


@pytest.fixture(scope="module")
def analysis(packs):
    return load_analysis(packs / "models" / "buffalo_l")


@pytest.fixture(scope="module")
def incumbent(packs):
    """The same models as another pack loads and prepares them."""
    loaded = FaceAnalysis(name="buffalo_l", root=str(packs), providers=["CPUExecutionProvider"])
    loaded.prepare(ctx_id=0, det_size=(640, 640))
    return loaded


@pytest.fixture
def places(places, monkeypatch):
    """ComfyUI's models, output and input folders, empty."""
    monkeypatch.setattr(folder_paths, "models_dir", str(places / "models"))
    monkeypatch.delitem(folder_paths.folder_names_and_paths, "insightface", raising=False)
    return places


@pytest.fixture
def no_network(monkeypatch):
    """What was tried to be reached, which is refused."""
    tried = []

    def refuse(*address):
        tried.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


READING = {"model_pack": "buffalo_l", "device": "CPU", "which": "largest", "together": "each", "save_as": ""}


def read(analysis, image, **changes):
    return run_node(IPAdapterInstructReadFace, face_analysis=analysis, image=image, **{**READING, **changes})


def bgr(image: torch.Tensor):
    """A picture of a batch of one as a program reads it from a file by cv2."""
    return (image[0] * 255).round().to(torch.uint8).flip(-1).contiguous().numpy()


def directly(loaded, image: torch.Tensor) -> list:
    """insightface's own faces of a picture, the largest first."""
    faces = loaded.get(bgr(image))
    return sorted(faces, key=lambda f: -(f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]))


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


# Loading


def load(pack: str = "buffalo_l", device: str = "CPU"):
    return read(None, image_of([LARGE]), model_pack=pack, device=device)


def offered() -> list[str]:
    return IPAdapterInstructReadFace.INPUT_TYPES()["required"]["model_pack"][1]["options"]


def test_the_node_loads_insightfaces_models_and_says_where_they_run(places, no_network, incumbent):
    face_models.save_pack(places / "models" / "insightface" / "models" / "buffalo_l")
    output = load()
    expected = directly(incumbent, image_of([LARGE]))[0]

    assert output.ui["text"][0] == "buffalo_l: detection, recognition; runs on CPU"
    assert torch.equal(output.args[0].embeddings[0], torch.from_numpy(expected.embedding))
    assert no_network == []


def test_a_device_that_onnxruntime_lacks_is_said_and_the_cpu_is_taken(places):
    face_models.save_pack(places / "models" / "insightface" / "models" / "buffalo_l")
    said = load(device="CUDA").ui["text"]
    assert said[0].endswith("runs on CPU")
    assert said[1] == "This onnxruntime has no CUDA: install onnxruntime-gpu in its place."


@pytest.mark.parametrize("device", face_analysis.DEVICES)
def test_a_device_that_onnxruntime_has_is_asked_for_first_and_the_cpu_after_it(packs, monkeypatch, device):
    asked = {}

    class Asked(FaceAnalysis):
        def __init__(self, providers, **inputs):
            asked["providers"] = providers
            super().__init__(providers=["CPUExecutionProvider"], **inputs)

    choice = face_analysis.DEVICES[device].providers
    monkeypatch.setattr("insightface.app.FaceAnalysis", Asked)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider", *choice, "Other"])
    loaded = load_analysis(packs / "models" / "buffalo_l", device)

    assert asked["providers"] == [*choice, "CPUExecutionProvider"]
    assert face_analysis.running_on(loaded) == "CPU"
    if choice:
        assert face_analysis.why_not(device) == f"onnxruntime could not start {device}; the console says why."


def test_the_published_packs_are_offered_and_those_that_are_there(places, monkeypatch):
    assert offered() == ["buffalo_l", "antelopev2"]
    other = places / "elsewhere"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "insightface", ([str(other)], set()))
    for root, name in ((other, "mine"), (places / "models" / "insightface", "buffalo_s")):
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "det.onnx").write_bytes(b"")
    (other / "models" / "empty").mkdir()

    assert offered() == ["buffalo_l", "antelopev2", "buffalo_s", "mine"]


def test_a_pack_in_a_folder_that_extra_model_paths_names_is_loaded(places, monkeypatch):
    other = places / "elsewhere"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "insightface", ([str(other)], set()))
    face_models.save_pack(other / "models" / "antelopev2")
    assert load("antelopev2").ui["text"][0].startswith("antelopev2: detection, recognition")


def test_an_archive_unpacked_into_a_folder_of_its_own_name_is_loaded(places, no_network):
    models = places / "models" / "insightface" / "models"
    face_models.save_pack(models / "antelopev2" / "antelopev2")
    face_models.save_pack(models / "other" / "backup")
    assert find_packs([models.parent]) == {"antelopev2": models / "antelopev2" / "antelopev2"}
    assert load("antelopev2").ui["text"][0].startswith("antelopev2: detection, recognition")
    assert no_network == []


@pytest.mark.parametrize("emptied", [False, True])
def test_a_pack_that_is_not_there_is_asked_for_and_never_downloaded(places, no_network, emptied):
    folder = places / "models" / "insightface" / "models" / "buffalo_l"
    if emptied:
        folder.mkdir(parents=True)
    refused(
        load,
        "buffalo_l (det_10g.onnx, w600k_r50.onnx) were expected in",
        str(folder),
        "Get buffalo_l.zip from https://github.com/deepinsight/insightface/releases",
        "Nothing is downloaded by itself",
        "Instruct Load Face",
    )
    assert no_network == []
    assert folder.exists() == emptied


def test_a_folder_of_the_packs_name_where_comfyui_runs_is_not_taken_for_it(places, monkeypatch):
    face_models.save_pack(places / "models" / "insightface" / "models" / "buffalo_l")
    (places / "here" / "buffalo_l").mkdir(parents=True)
    monkeypatch.chdir(places / "here")
    assert load().ui["text"][0].startswith("buffalo_l: detection, recognition")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>"])
@pytest.mark.parametrize("name", ["det_10g.onnx", "w600k_r50.onnx"])
def test_a_damaged_model_is_said_with_the_files_sizes(tmp_path, name, content):
    folder = face_models.save_pack(tmp_path / "buffalo_l")
    (folder / name).write_bytes(content)
    refused(lambda: load_analysis(folder), str(folder), f"{name} (0.0 MB)", "did not load", "get the pack again")


def test_a_pack_without_its_detection_or_recognition_model_is_said(tmp_path):
    folder = face_models.save_pack(tmp_path / "buffalo_l")
    (folder / "w600k_r50.onnx").rename(tmp_path / "kept.onnx")
    refused(lambda: load_analysis(folder), "FaceAnalysis has no recognition")
    (folder / "det_10g.onnx").unlink()
    (tmp_path / "kept.onnx").rename(folder / "w600k_r50.onnx")
    refused(lambda: load_analysis(folder), "it holds w600k_r50.onnx", "AssertionError", "damaged or missing")


@pytest.mark.parametrize("package", ["insightface", "onnxruntime"])
def test_without_insightface_or_onnxruntime_the_node_says_how_to_install_them(places, monkeypatch, package):
    face_models.save_pack(places / "models" / "insightface" / "models" / "buffalo_l")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    refused(load, "cannot be imported here", package, "-m pip install insightface onnxruntime", "Instruct Load Face")


# The nodes together


def test_a_face_that_was_read_is_saved_and_loaded_bit_for_bit(places, analysis):
    reading = read(analysis, image_of([SMALL, LARGE]), which="all", save_as="faces/face")
    output = run_node(IPAdapterInstructLoadFace, file="faces/face_00001_.face.safetensors [output]")

    assert torch.equal(output.args[0].embeddings, reading.args[0].embeddings)
    assert output.ui["text"] == ("2 face(s), read by w600k_r50.onnx",)
    assert f"saved: faces/face_00001_.face.safetensors, in {places / 'output'}" in reading.ui["text"]


def test_saved_faces_are_numbered_and_none_is_written_over_nor_written_unasked(places, analysis):
    for save_as in ("faces/face", "faces/face", "", "  "):
        read(analysis, image_of([LARGE]), save_as=save_as)
    names = [f"face_0000{number}_.face.safetensors" for number in (1, 2)]
    assert sorted(path.name for path in (places / "output" / "faces").iterdir()) == names


@pytest.mark.parametrize("prefix", ["../ann", "/tmp/ann", "a/../../ann"])
def test_a_place_outside_the_output_folder_is_refused_before_anything_is_read(places, prefix):
    refused(
        lambda: read(object(), image_of([LARGE]), save_as=prefix),
        "save_as was expected to be a place",
        "inside",
        str(places / "output"),
        "Write",
    )
    assert list((places / "output").iterdir()) == []


@pytest.mark.parametrize("prefix", [".", "..", "/"])
def test_a_place_that_names_nothing_is_refused(places, analysis, prefix):
    refused(lambda: read(analysis, image_of([LARGE]), save_as=prefix), "was expected to be a name", "Write one")


def test_a_folder_that_cannot_be_made_is_said(places, analysis):
    (places / "output" / "faces").write_text("a file in the folder's place")
    refused(lambda: read(analysis, image_of([LARGE]), save_as="faces/x"), "faces", "the system refused")


def test_every_input_and_output_of_the_face_nodes_has_a_tooltip():
    for node in (IPAdapterInstructReadFace, IPAdapterInstructLoadFace):
        schema = node.GET_SCHEMA()
        assert schema.category == "IPAdapter-Instruct/faces"
        assert all(each.tooltip for each in (*schema.inputs, *schema.outputs))


def test_seeing_faces_leaves_the_picture_as_it_was(analysis):
    image = image_of([LARGE])
    before = image.clone()
    see_faces(analysis, image)
    assert torch.equal(image, before)
