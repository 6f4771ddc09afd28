"""Faces that were read are saved and loaded, and the face nodes leave what they are given as it was."""

import pytest
import torch
from support.pack_nodes import run_node

pytest.importorskip("insightface")
pytest.importorskip("onnx")

from ipadapter_instruct.models.reference.face_analysis import see_faces  # noqa: E402
from ipadapter_instruct.nodes.faces.load_face import IPAdapterInstructLoadFace  # noqa: E402
from ipadapter_instruct.nodes.faces.read_face import IPAdapterInstructReadFace  # noqa: E402
from support.face_models import LARGE, SMALL, image_of  # noqa: E402
from support.node_runs.face_reading import read  # noqa: E402
from support.refusals import refused  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("faces"),  # one process loads the models for all
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated"),  # insightface's own
]


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
