"""Faces loaded by the node, which needs no insightface: bit for bit, and from nowhere but their folders."""

from pathlib import Path

import folder_paths
import pytest
import torch
from ipadapter_instruct.models.reference.faces import Faces, write_faces
from ipadapter_instruct.nodes.faces.load_face import FACES, IPAdapterInstructLoadFace
from support.pack_nodes import run_node
from support.refusals import refused

FIRST = "faces/face_00001_.face.safetensors [output]"


def save(faces: Faces, prefix: str = "faces/face") -> None:
    write_faces(faces, FACES.next_path(prefix, folder_paths.get_output_directory()))


def load_face(file: str = FIRST):
    return run_node(IPAdapterInstructLoadFace, file=file)


def listed() -> list[str]:
    return IPAdapterInstructLoadFace.INPUT_TYPES()["required"]["file"][1]["options"]


@pytest.fixture
def faces():
    return Faces(torch.randn(2, 512, generator=torch.Generator().manual_seed(0)), "w600k_r50.onnx")


def test_a_saved_face_is_loaded_bit_for_bit_and_it_is_said_what_it_is(places, faces):
    save(faces)
    output = load_face()
    assert torch.equal(output.args[0].embeddings, faces.embeddings)
    assert output.ui["text"] == ("2 face(s), read by w600k_r50.onnx",)


def test_the_list_shows_the_input_folder_and_what_was_saved(places, faces):
    save(faces)
    save(faces, "faces/more/ann")
    save(faces, "elsewhere/ann")
    content = (places / "output" / "faces" / "face_00001_.face.safetensors").read_bytes()
    (places / "input" / "mine").mkdir()
    for name in ("b.face.safetensors", "mine/a.face.safetensors", "other.safetensors", "c.instruct.safetensors"):
        (places / "input" / name).write_bytes(content)

    assert listed() == [
        "b.face.safetensors",
        "mine/a.face.safetensors",
        FIRST,
        "faces/more/ann_00001_.face.safetensors [output]",
    ]
    for name in listed():
        assert IPAdapterInstructLoadFace.validate_inputs(file=name) is True
        assert torch.equal(load_face(name).args[0].embeddings, faces.embeddings)


OUTSIDE = ["../a.face.safetensors", "mine/../../a.face.safetensors", "../a.face.safetensors [output]"]


@pytest.mark.parametrize("name", [*OUTSIDE, "gone.face.safetensors", "other.safetensors", "", "/etc/hostname"])
def test_a_file_outside_or_not_there_or_of_another_kind_is_refused_before_anything_runs(places, name):
    for path in (places / "a.face.safetensors", places / "input" / "other.safetensors"):
        path.write_bytes(b"x")
    said = IPAdapterInstructLoadFace.validate_inputs(file=name)
    assert "file was expected to be faces, *.face.safetensors" in said
    assert "refresh the page" in said
    refused(lambda: load_face(name), "file was expected to be faces, *.face.safetensors")


def test_a_linked_file_name_is_checked_when_it_is_known(places):
    assert IPAdapterInstructLoadFace.validate_inputs(file=None) is True


def test_another_file_under_the_same_name_is_loaded_anew(places, faces):
    save(faces)
    save(faces.averaged())
    first, second = (path.read_bytes() for path in sorted(Path(places, "output", "faces").iterdir()))
    prints = []
    for content in (first, first, second):
        (places / "input" / "a.face.safetensors").write_bytes(content)
        prints.append(IPAdapterInstructLoadFace.fingerprint_inputs(file="a.face.safetensors"))
    assert prints[0] == prints[1] != prints[2]
