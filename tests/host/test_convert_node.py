"""The node that converts an adapter: where it writes, what it says, and that the loader takes what it wrote."""

import os

import folder_paths
import pytest
import torch
from ipadapter_instruct.models.files.tensor_files import read_file
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.tools.convert import IPAdapterInstructConvert
from support import pack_nodes, small_files
from support.pack_nodes import run_node


@pytest.fixture
def folder(tmp_path):
    """A models/ipadapter with an adapter of each family, in a folder inside it."""
    with pack_nodes.model_folders(tmp_path) as folders:
        inside = folders["ipadapter"] / "instruct"
        inside.mkdir()
        for family in ("sd15", "sdxl", "sd3"):
            small_files.save_adapter(small_files.adapter_tensors(family), inside / f"{family}.bin")
        yield folders["ipadapter"]


def convert(name: str, precision: str = "fp16", overwrite: bool = False):
    return run_node(IPAdapterInstructConvert, adapter_name=name, precision=precision, overwrite=overwrite)


def listed() -> list[str]:
    folder_paths.filename_list_cache.pop("ipadapter", None)
    return folder_paths.get_filename_list("ipadapter")


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_loader_takes_what_was_written_and_makes_the_same_tokens_of_it(folder, family):
    (name,) = convert(os.path.join("instruct", f"{family}.bin")).args
    assert name == os.path.join("instruct", f"{family}-fp16.safetensors")
    assert name in listed()

    loaded = [
        run_node(IPAdapterInstructLoader, adapter_name=each, image_encoder="auto").args[0].adapter
        for each in (os.path.join("instruct", f"{family}.bin"), name)
    ]
    assert loaded[0].family is loaded[1].family
    inputs = torch.randn(1, 257, 1280), torch.randn(1, 77, 768), torch.randn(1, 77, 768)
    original, found = (adapter.image_tokens(*inputs) for adapter in loaded)
    torch.testing.assert_close(found, original, rtol=0, atol=5e-3 * float(original.abs().max()))


def test_what_was_written_is_said_with_sizes(folder):
    said, hint = convert(os.path.join("instruct", "sd15.bin"), "bf16").ui["text"]
    assert said.startswith("sd15.bin (")
    assert f"-> {folder / 'instruct' / 'sd15-bf16.safetensors'} (" in said
    assert said.endswith("bf16, IPAdapter-Instruct for SD1.5")
    assert "Refresh" in hint


def test_a_file_of_an_earlier_conversion_is_replaced_only_when_asked(folder):
    name = os.path.join("instruct", "sd15.bin")
    convert(name)
    with pytest.raises(ValueError, match="is there already"):
        convert(name)
    assert convert(name, overwrite=True).args == (os.path.join("instruct", "sd15-fp16.safetensors"),)


def test_from_a_folder_that_is_read_only_it_goes_to_models_ipadapter(folder, tmp_path, monkeypatch):
    inside = folder / "instruct"
    monkeypatch.setattr(os, "access", lambda path, mode: path != inside)  # root may write anywhere
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))

    output = convert(os.path.join("instruct", "sd15.bin"))

    assert output.args == ("sd15-fp16.safetensors",)
    written = tmp_path / "models" / "ipadapter" / "sd15-fp16.safetensors"
    assert read_file(written).keys() == small_files.adapter_tensors().keys()
    assert sorted(path.name for path in inside.iterdir()) == ["sd15.bin", "sd3.bin", "sdxl.bin"]


def test_it_is_a_node_that_runs_by_itself(folder):
    schema = IPAdapterInstructConvert.GET_SCHEMA()
    assert schema.node_id == "IPAdapterInstructConvert"
    assert schema.display_name == "Convert IPAdapter-Instruct"
    assert schema.category == "IPAdapter-Instruct/tools"
    assert schema.is_output_node


@pytest.mark.parametrize(
    ("node", "more"),
    [(IPAdapterInstructConvert, {"precision": "fp16"}), (IPAdapterInstructLoader, {"image_encoder": "auto"})],
)
def test_another_file_under_the_same_name_is_another_input(folder, node, more):
    name, path = os.path.join("instruct", "sd15.bin"), folder / "instruct" / "sd15.bin"

    def fingerprint():
        return node.fingerprint_inputs(adapter_name=name, **more)

    first = fingerprint()
    assert fingerprint() == first
    path.replace(path.with_name("elsewhere.bin"))
    gone = fingerprint()
    small_files.save_adapter(small_files.adapter_tensors("sdxl"), path)
    other = fingerprint()
    path.with_name("elsewhere.bin").replace(path)
    assert fingerprint() == first  # put back as it was
    assert first != gone != other != first


def test_a_new_image_encoder_is_another_input_to_the_loader(folder, tmp_path):
    encoders = tmp_path / "clip_vision"
    found = []
    for width in (1024, 1280):
        small_files.save_encoder_header(encoders / f"{width}.safetensors", width)
        folder_paths.filename_list_cache.pop("clip_vision", None)
        found.append(IPAdapterInstructLoader.fingerprint_inputs(adapter_name=None, image_encoder="auto"))
    assert found[0] != found[1]
