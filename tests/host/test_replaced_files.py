"""Files that were converted, replaced or added: the loader takes them, and notices."""

import os

import folder_paths
import pytest
import torch
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
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


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_loader_takes_what_was_written_and_makes_the_same_tokens_of_it(folder, family):
    name = os.path.join("instruct", f"{family}-fp16.safetensors")
    convert(folder / "instruct" / f"{family}.bin", folder / name, "fp16", overwrite=False)

    loaded = [
        run_node(IPAdapterInstructLoader, adapter_name=each, image_encoder="auto", lora_strength=1.0).args[0].adapter
        for each in (os.path.join("instruct", f"{family}.bin"), name)
    ]
    assert loaded[0].family is loaded[1].family
    inputs = torch.randn(1, 257, 1280), torch.randn(1, 77, 768), torch.randn(1, 77, 768)
    original, found = (adapter.image_tokens(*inputs) for adapter in loaded)
    torch.testing.assert_close(found, original, rtol=0, atol=5e-3 * float(original.abs().max()))


def test_another_file_under_the_same_name_is_another_input(folder):
    name, path = os.path.join("instruct", "sd15.bin"), folder / "instruct" / "sd15.bin"

    def fingerprint():
        return IPAdapterInstructLoader.fingerprint_inputs(adapter_name=name, image_encoder="auto")

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
