"""Image encoders are recognised by their headers."""

import struct

import pytest
import torch
from files import adapter_tensors, save_encoder_header
from ipadapter_instruct.models.encoder_files import encoder_title, encoder_width, find_encoder, wrong_encoder
from safetensors.torch import save_file

VIT_H, VIT_BIGG, VIT_L = 1280, 1664, 1024


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
@pytest.mark.parametrize("width", [VIT_L, VIT_H, VIT_BIGG])
def test_the_width_is_read_off_the_header_in_both_layouts(tmp_path, layout, width):
    assert encoder_width(save_encoder_header(tmp_path / "encoder.safetensors", width, layout)) == width


def test_only_the_header_is_read(tmp_path):
    path = save_encoder_header(tmp_path / "encoder.safetensors", VIT_H)
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    path.write_bytes(content[:header] + b"\xff" * (len(content) - header))  # NaN for weights
    assert encoder_width(path) == VIT_H


def unreadable_files(folder):
    whole = save_encoder_header(folder / "whole.safetensors", VIT_H).read_bytes()
    contents = {"empty": b"", "web page": b"<!DOCTYPE html>", "cut short": whole[:-100], "cut header": whole[:20]}
    for name, content in contents.items():
        path = folder / f"{name}.safetensors"
        path.write_bytes(content)
        yield name, path
    yield "missing", folder / "missing.safetensors"
    folder.joinpath("folder.safetensors").mkdir()
    yield "a folder", folder / "folder.safetensors"


def test_files_that_cannot_be_read_have_no_width(tmp_path):
    widths = {name: encoder_width(path) for name, path in unreadable_files(tmp_path)}
    assert len(widths) == 6
    assert set(widths.values()) == {None}


def test_other_safetensors_have_no_width(tmp_path):
    save_file(adapter_tensors(), tmp_path / "adapter.safetensors")
    assert encoder_width(tmp_path / "adapter.safetensors") is None


def test_pickled_files_are_not_opened(tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(VIT_H, 3, 2, 2)}, tmp_path / "open_clip_pytorch_model.bin")
    assert encoder_width(tmp_path / "open_clip_pytorch_model.bin") is None


def test_the_encoder_is_found_by_its_width_not_by_its_name(tmp_path):
    widths = {"CLIP-ViT-H-14.safetensors": VIT_BIGG, "broken.safetensors": None, "sub/model.safetensors": VIT_H}
    (tmp_path / "sub").mkdir()
    for name, width in widths.items():
        if width is None:
            (tmp_path / name).write_bytes(b"nothing")
        else:
            save_encoder_header(tmp_path / name, width)
    files = [(name, tmp_path / name) for name in widths]

    assert find_encoder(files, VIT_H) == "sub/model.safetensors"
    assert find_encoder(files, VIT_BIGG) == "CLIP-ViT-H-14.safetensors"
    assert find_encoder(files, VIT_L) is None


def test_the_first_of_several_that_fit_is_taken(tmp_path):
    files = [(name, save_encoder_header(tmp_path / name, VIT_H)) for name in ("a.safetensors", "b.safetensors")]
    assert find_encoder(files, VIT_H) == "a.safetensors"


def test_a_title_says_the_name_people_know_and_the_width():
    assert encoder_title(VIT_BIGG) == "ViT-bigG (1664 wide)"
    assert encoder_title(77) == "an encoder 77 wide"


def test_the_message_for_a_wrong_encoder_says_what_is_needed_what_was_found_and_what_to_get():
    message = wrong_encoder("clip.safetensors is ViT-L (1024 wide)", VIT_H)

    assert "needs the image encoder ViT-H (1280 wide)" in message
    assert "clip.safetensors is ViT-L (1024 wide)" in message
    assert "https://huggingface.co/h94/IP-Adapter/resolve/main/models/image_encoder/model.safetensors" in message
    assert "models/clip_vision" in message
