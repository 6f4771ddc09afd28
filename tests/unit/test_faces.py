"""Faces as files: what is written is read back bit for bit, embeddings from elsewhere are read too, anything else is
refused, and none of it needs insightface."""

import os
import subprocess
import sys

import pytest
import safetensors
import torch
from comfyhost.places import REPO_ROOT
from ipadapter_instruct.models.files.encoder_files import FACE_WIDTH
from ipadapter_instruct.models.reference.faces import Faces, read_faces, write_faces
from safetensors.torch import save_file
from support.refusals import refused


def embeddings(faces: int = 1) -> torch.Tensor:
    return 20 * torch.randn(faces, FACE_WIDTH, generator=torch.Generator().manual_seed(faces))


def saved(path, metadata=None, **tensors):
    save_file(tensors, path, metadata)
    return path


# Faces


def test_normed_embeddings_point_the_same_way_and_have_length_one():
    faces = Faces(embeddings(3))
    assert torch.allclose(faces.normed.norm(dim=-1), torch.ones(3))
    assert torch.allclose(faces.normed * faces.embeddings.norm(dim=-1, keepdim=True), faces.embeddings)


def test_several_photos_of_one_person_are_averaged_to_one_face():
    faces = Faces(embeddings(3), "w600k_r50.onnx")
    one = faces.averaged()
    assert torch.equal(one.embeddings, faces.embeddings.mean(dim=0, keepdim=True))
    assert one.recognition == "w600k_r50.onnx"
    assert torch.equal(one.averaged().embeddings, one.embeddings)


@pytest.mark.parametrize("shape", [(512,), (0, 512), (1, 256), (1, 1, 512), ()])
def test_faces_of_another_shape_are_refused(shape):
    refused(lambda: Faces(torch.ones(shape)), "expected to be [faces, 512]; they are", str(list(shape)), "Make one")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_an_embedding_that_is_no_number_is_refused(number):
    wrong = embeddings(3)
    wrong[1, 7] = number
    refused(lambda: Faces(wrong), "not all zero; 1 of 3 are zero, NaN or infinite", "Make one")


def test_an_embedding_of_zeros_is_refused():
    refused(lambda: Faces(torch.zeros(2, FACE_WIDTH)), "2 of 2 are zero, NaN or infinite")


# Writing and reading


@pytest.mark.parametrize("faces", [1, 4])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, faces):
    made = Faces(embeddings(faces), "glintr100.onnx")
    write_faces(made, tmp_path / "a.face.safetensors")
    found = read_faces(tmp_path / "a.face.safetensors")
    assert torch.equal(found.embeddings, made.embeddings)
    assert found.embeddings.dtype == torch.float32
    assert found.recognition == "glintr100.onnx"
    assert os.listdir(tmp_path) == ["a.face.safetensors"]


def test_an_embedding_that_lies_across_memory_is_written_too(tmp_path):
    made = Faces(torch.randn(FACE_WIDTH, 2).T)
    write_faces(made, tmp_path / "a")
    assert torch.equal(read_faces(tmp_path / "a").embeddings, made.embeddings)


def test_the_file_says_what_it_is_to_whoever_opens_it(tmp_path):
    write_faces(Faces(embeddings(2), "w600k_r50.onnx"), tmp_path / "a")
    with safetensors.safe_open(tmp_path / "a", framework="pt") as file:
        said, held = file.metadata(), {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert held == {"face_embedding": [2, 512]}
    assert said == {
        "format": "pt",
        "pack": "ComfyUI-IPAdapter-Instruct",
        "version": "1",
        "recognition": "w600k_r50.onnx",
    }


def test_a_file_that_is_there_is_never_written_over(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"precious")
    refused(lambda: write_faces(Faces(embeddings()), target), f"{target} is there already", "Choose another name")
    assert target.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a_file/a", "nowhere/a", "a" * 300])
def test_a_place_that_cannot_be_written_to_is_refused_in_words(tmp_path, name):
    (tmp_path / "a_file").write_bytes(b"")
    refused(
        lambda: write_faces(Faces(embeddings()), tmp_path / name),
        f"The faces were to be saved in {(tmp_path / name).parent}; the system refused",
        "choose another save_as",
        "Nothing was left behind",
    )
    assert os.listdir(tmp_path) == ["a_file"]


# Embeddings from elsewhere


@pytest.mark.parametrize(
    "shape", [(512,), (1, 512), (3, 512), (1, 1, 512), (1, 3, 512), (3, 1, 1, 512), (2, 1, 1, 512)]
)
def test_one_tensor_of_any_name_is_read_as_faces_with_axes_of_length_one_anywhere(tmp_path, shape):
    given = torch.randn(shape)
    found = read_faces(saved(tmp_path / "a", anna=given))
    assert torch.equal(found.embeddings, given.reshape(-1, 512))
    assert found.recognition == ""


@pytest.mark.parametrize("faces", [1, 3])
def test_the_zeros_that_diffusers_puts_first_are_not_a_face(tmp_path, faces):
    given = torch.randn(1, faces, 1, 512)
    found = read_faces(saved(tmp_path / "a", embeds=torch.cat([torch.zeros_like(given), given])))
    assert torch.equal(found.embeddings, given.reshape(-1, 512))


@pytest.mark.parametrize("name", ["face_embedding", "faceid_embeds", "embedding"])
def test_beside_other_tensors_a_known_name_is_taken(tmp_path, name):
    given = torch.randn(512)
    path = saved(tmp_path / "a", **{name: given, "box": torch.zeros(4), "age": torch.zeros(1)})
    assert torch.equal(read_faces(path).embeddings, given.unsqueeze(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_as_float32(tmp_path, dtype):
    given = embeddings().to(dtype)
    found = read_faces(saved(tmp_path / "a", embedding=given))
    assert torch.equal(found.embeddings, given.float()) and found.embeddings.dtype == torch.float32


# Files that are something else

FOUND = {
    "embeds of ViT-H": ({"embeds": torch.ones(1, 257, 1280)}, "embeds in it is float32 [1, 257, 1280]"),
    "another model's": ({"embedding": torch.ones(128)}, "embedding in it is float32 [128]"),
    "one number": ({"embedding": torch.tensor(1.0)}, "embedding in it is float32 []"),
    "two axes of faces": ({"a": torch.ones(2, 3, 512)}, "a in it is float32 [2, 3, 512]"),
    "the wrong way round": ({"a": torch.ones(512, 1)}, "a in it is float32 [512, 1]"),
    "whole numbers": ({"a": torch.ones(512, dtype=torch.int64)}, "a in it is int64 [512]"),
    "several tensors": ({"a": torch.ones(512), "b": torch.ones(512)}, "it holds a, b."),
    "two known names": (
        {"embedding": torch.ones(512), "faceid_embeds": torch.ones(512)},
        "it holds faceid_embeds, embedding.",
    ),
    "an adapter": ({f"ip_adapter.{n}": torch.ones(2) for n in range(9)}, "it holds ip_adapter.0", "and 4 more"),
    "nothing": ({}, "it holds nothing"),
}


@pytest.mark.parametrize("case", FOUND)
def test_another_file_is_refused_with_what_it_holds(tmp_path, case):
    tensors, *parts = FOUND[case]
    path = saved(tmp_path / "b.face.safetensors", **tensors)
    expected = "b.face.safetensors was expected to hold a face embedding"
    refused(lambda: read_faces(path), expected, *parts, "Choose another file", "Make one of a photo")


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_with_the_files_name(tmp_path, number):
    path = saved(tmp_path / "b.face.safetensors", face_embedding=torch.full((512,), number))
    refused(lambda: read_faces(path), "b.face.safetensors", "1 of 1 are zero, NaN or infinite")


def test_a_later_versions_file_is_refused(tmp_path):
    said = {"pack": "ComfyUI-IPAdapter-Instruct", "version": "2"}
    path = saved(tmp_path / "a", said, face_embedding=embeddings())
    refused(lambda: read_faces(path), "of format 1; it is of format '2'", "Update the pack")


@pytest.mark.parametrize("size", [0, 5, 100, 1000])
def test_a_file_that_is_cut_short_is_refused(tmp_path, size):
    path = tmp_path / "a"
    write_faces(Faces(embeddings()), path)
    path.write_bytes(path.read_bytes()[:size])
    refused(lambda: read_faces(path), "a was expected to be a face embedding; it cannot be read", "cut short, damaged")


def test_a_file_that_is_gone_is_refused(tmp_path):
    refused(lambda: read_faces(tmp_path / "a"), "gone", "Make one")


# Without insightface

ALONE = """
import sys
for name in ("insightface", "onnxruntime", "onnx", "cv2", "skimage"):
    sys.modules[name] = None  # as where it is not installed
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1] + "/tools"]
from support import importable_pack
from pathlib import Path
from ipadapter_instruct.models.reference.face_analysis import find_packs, load_analysis
from ipadapter_instruct.models.reference.faces import read_faces
assert read_faces(Path(sys.argv[2])).embeddings.shape == (1, 512)
try:
    load_analysis(Path(sys.argv[2]).parent)
except ValueError as error:
    sys.stdout.write(str(error))
"""


def test_without_insightface_files_are_read_and_the_analysis_says_how_to_install_it(tmp_path):
    write_faces(Faces(embeddings()), tmp_path / "a")
    call = [sys.executable, "-c", ALONE, str(REPO_ROOT), str(tmp_path / "a")]
    run = subprocess.run(call, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "which cannot be imported here (ModuleNotFoundError" in run.stdout
    assert f'"{sys.executable}" -m pip install insightface onnxruntime' in run.stdout
    assert "Instruct Load Face needs neither" in run.stdout


def test_a_first_face_of_zeros_is_no_negative_where_there_is_no_axis_for_one(tmp_path):
    two = torch.cat([torch.zeros(1, FACE_WIDTH), embeddings()])
    refused(lambda: read_faces(saved(tmp_path / "a", embeds=two)), "1 of 2 are zero")
    assert torch.equal(read_faces(saved(tmp_path / "b", embeds=two[:, None])).embeddings, embeddings())


def test_an_embedding_shorter_than_1_is_a_face_too():
    assert Faces(torch.full((1, 512), 0.001)).normed.norm().item() == pytest.approx(1.0)
