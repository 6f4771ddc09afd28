"""Faces saved and loaded by the nodes, which needs no insightface: bit for bit, and from nowhere but their folders."""

import os
from pathlib import Path

import pytest
import torch
from ipadapter_instruct.models.reference.faces import Faces
from ipadapter_instruct.nodes.faces.face_files import IPAdapterInstructLoadFace, IPAdapterInstructSaveFace
from support.pack_nodes import run_node
from support.refusals import refused

FIRST = "faces/face_00001_.face.safetensors [output]"


def save(faces: Faces, prefix: str = "faces/face"):
    return run_node(IPAdapterInstructSaveFace, face=faces, filename_prefix=prefix)


def load_face(file: str = FIRST):
    return run_node(IPAdapterInstructLoadFace, file=file)


def listed() -> list[str]:
    return IPAdapterInstructLoadFace.INPUT_TYPES()["required"]["file"][1]["options"]


@pytest.fixture
def faces():
    return Faces(torch.randn(2, 512, generator=torch.Generator().manual_seed(0)), "w600k_r50.onnx")


def test_a_saved_face_is_loaded_bit_for_bit_and_both_nodes_say_what_it_is(places, faces):
    said = save(faces).ui["text"]
    output = load_face()
    assert torch.equal(output.args[0].embeddings, faces.embeddings)
    assert output.ui["text"] == ("2 face(s), read by w600k_r50.onnx",)
    assert said == (f"faces/face_00001_.face.safetensors, in {places / 'output'}", *output.ui["text"])


def test_files_are_numbered_and_none_is_written_over(places, faces):
    for _ in range(3):
        save(faces)
    names = [f"face_0000{number}_.face.safetensors" for number in (1, 2, 3)]
    assert sorted(os.listdir(places / "output" / "faces")) == names


@pytest.mark.parametrize("prefix", ["../ann", "/tmp/ann", "a/../../ann"])
def test_a_prefix_outside_the_output_folder_is_refused(places, faces, prefix):
    refused(lambda: save(faces, prefix), "filename_prefix", "inside", str(places / "output"), "Write")
    assert os.listdir(places / "output") == []


@pytest.mark.parametrize("prefix", ["", "  ", ".", "..", "/"])
def test_a_prefix_that_names_nothing_is_refused(places, faces, prefix):
    refused(lambda: save(faces, prefix), "filename_prefix was expected to be a name", "Write one")


def test_a_folder_that_cannot_be_made_is_said(places, faces):
    (places / "output" / "faces").write_text("a file in the folder's place")
    refused(lambda: save(faces), "faces", "the system refused", "choose another filename_prefix")


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
