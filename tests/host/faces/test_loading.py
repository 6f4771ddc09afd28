"""Packs of insightface's models found and loaded on a device, and never downloaded."""

import socket
import sys

import folder_paths
import pytest
import torch

pytest.importorskip("insightface")
pytest.importorskip("onnx")

from insightface.app import FaceAnalysis  # noqa: E402
from ipadapter_instruct.models.reference import face_analysis  # noqa: E402
from ipadapter_instruct.models.reference.face_analysis import find_packs, load_analysis  # noqa: E402
from ipadapter_instruct.nodes.faces.read_face import IPAdapterInstructReadFace  # noqa: E402
from support import face_models  # noqa: E402
from support.face_models import LARGE, image_of  # noqa: E402
from support.node_runs.face_reading import directly, read  # noqa: E402
from support.refusals import refused  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("faces"),  # one process loads the models for all
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated"),  # insightface's own
]


@pytest.fixture
def no_network(monkeypatch):
    """The addresses that were tried; each is refused."""
    tried = []

    def refuse(*address):
        tried.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


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
