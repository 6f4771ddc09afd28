"""Image encoders are recognised by their headers."""

import struct

import pytest
import torch
from ipadapter_instruct.models.files.encoder_files import (
    ENCODERS,
    VIT_H_HIDDEN_STATES,
    EncoderNeed,
    EncoderSizes,
    check_sizes,
    encoder_sizes,
    encoder_title,
    find_encoder,
    wrong_encoder,
)
from safetensors.torch import save_file
from support.small_files import adapter_tensors, save_encoder_header

VIT_H, VIT_BIGG, VIT_L = 1280, 1664, 1024


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
@pytest.mark.parametrize("width", [VIT_L, VIT_H, VIT_BIGG])
def test_the_sizes_are_read_off_the_header_in_both_layouts(tmp_path, layout, width):
    path = save_encoder_header(tmp_path / "encoder.safetensors", width, layout, projection_width=96, positions=257)
    assert encoder_sizes(path) == EncoderSizes(width, 96, 257)


def test_a_file_without_a_projection_has_no_projection_width(tmp_path):
    path = save_encoder_header(tmp_path / "encoder.safetensors", VIT_H)
    assert encoder_sizes(path) == EncoderSizes(VIT_H, None, None)


def test_only_the_header_is_read(tmp_path):
    path = save_encoder_header(tmp_path / "encoder.safetensors", VIT_H)
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    path.write_bytes(content[:header] + b"\xff" * (len(content) - header))  # NaN for weights
    assert encoder_sizes(path).width == VIT_H


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
    widths = {name: encoder_sizes(path) for name, path in unreadable_files(tmp_path)}
    assert len(widths) == 6
    assert set(widths.values()) == {None}


def test_other_safetensors_have_no_width(tmp_path):
    save_file(adapter_tensors(), tmp_path / "adapter.safetensors")
    assert encoder_sizes(tmp_path / "adapter.safetensors") is None


def test_pickled_files_are_not_opened(tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(VIT_H, 3, 2, 2)}, tmp_path / "open_clip_pytorch_model.bin")
    assert encoder_sizes(tmp_path / "open_clip_pytorch_model.bin") is None


def test_the_encoder_is_found_by_its_width_not_by_its_name(tmp_path):
    widths = {"CLIP-ViT-H-14.safetensors": VIT_BIGG, "broken.safetensors": None, "sub/model.safetensors": VIT_H}
    (tmp_path / "sub").mkdir()
    for name, width in widths.items():
        if width is None:
            (tmp_path / name).write_bytes(b"nothing")
        else:
            save_encoder_header(tmp_path / name, width)
    files = [(name, tmp_path / name) for name in widths]

    assert find_encoder(files, VIT_H_HIDDEN_STATES) == "sub/model.safetensors"
    assert find_encoder(files, EncoderNeed(VIT_BIGG)) == "CLIP-ViT-H-14.safetensors"
    assert find_encoder(files, EncoderNeed(VIT_L)) is None


def test_the_first_of_several_that_fit_is_taken(tmp_path):
    files = [(name, save_encoder_header(tmp_path / name, VIT_H)) for name in ("a.safetensors", "b.safetensors")]
    assert find_encoder(files, VIT_H_HIDDEN_STATES) == "a.safetensors"


def test_a_title_says_the_name_people_know_and_the_width():
    assert encoder_title(VIT_BIGG) == "ViT-bigG (1664 wide)"
    assert encoder_title(77) == "an encoder 77 wide"


def test_the_message_for_a_wrong_encoder_says_what_is_needed_what_was_found_and_what_to_get():
    message = wrong_encoder("clip.safetensors is ViT-L (1024 wide)", VIT_H_HIDDEN_STATES)

    assert "needs the image encoder ViT-H (1280 wide)" in message
    assert "clip.safetensors is ViT-L (1024 wide)" in message
    assert "https://huggingface.co/h94/IP-Adapter/resolve/main/models/image_encoder/model.safetensors" in message
    assert "models/clip_vision" in message


def test_a_pooled_embedding_is_told_by_the_width_of_the_projection(tmp_path):
    sizes = {"bigG": (1664, 1280), "H": (1280, 1024), "L": (1024, 768)}
    files = [
        (name, save_encoder_header(tmp_path / f"{name}.safetensors", width, projection_width=image_embeds))
        for name, (width, image_embeds) in sizes.items()
    ]
    assert find_encoder(files, EncoderNeed(1280, image_embeds=True)) == "bigG"
    assert find_encoder(files, EncoderNeed(1280)) == "H"
    assert find_encoder(files, EncoderNeed(1024, image_embeds=True)) == "H"
    assert find_encoder(files, EncoderNeed(1024)) == "L"
    assert find_encoder(files, EncoderNeed(512, image_embeds=True)) is None


def test_of_encoders_of_one_width_the_one_for_the_trained_size_of_pictures_is_found_first(tmp_path):
    small, large = (
        (str(positions), save_encoder_header(tmp_path / f"{positions}.safetensors", 1024, positions=positions))
        for positions in (257, 577)
    )
    assert find_encoder([small, large], EncoderNeed(1024)) == "577"
    assert find_encoder([small], EncoderNeed(1024)) == "257"


@pytest.mark.parametrize("encoder", [one for one in ENCODERS if one.url], ids=lambda one: one.title)
@pytest.mark.parametrize("image_embeds", [False, True])
def test_each_need_names_its_encoder_and_where_to_get_it(encoder, image_embeds):
    need = EncoderNeed(encoder.sizes.projection_width if image_embeds else encoder.sizes.width, image_embeds)
    check_sizes(encoder.sizes, need, "the file")
    message = wrong_encoder("x is y", need)
    assert f"needs the image encoder {encoder.title} ({encoder.sizes.width} wide" in message
    assert encoder.url in message
    assert encoder.file in message


@pytest.mark.parametrize("need", [EncoderNeed(1280), EncoderNeed(1280, True), EncoderNeed(1024, True)])
def test_an_encoder_that_does_not_fit_is_refused_by_its_name(need):
    with pytest.raises(ValueError, match=r"x\.safetensors is ViT-L \(1024 wide\)"):
        check_sizes(EncoderSizes(1024, 768, 577), need, "x.safetensors")


def test_a_missing_projection_is_said():
    with pytest.raises(ValueError, match=r"x is ViT-H \(1280 wide\) without a projection"):
        check_sizes(EncoderSizes(1280), EncoderNeed(1024, image_embeds=True), "x")


def test_a_projection_that_is_not_at_fault_is_not_spoken_of():
    for sizes, need in ((EncoderSizes(1280), EncoderNeed(1024)), (EncoderSizes(1280, 768), EncoderNeed(1024, True))):
        with pytest.raises(ValueError, match=r"x is ViT-H \(1280 wide\)\. Get "):
            check_sizes(sizes, need, "x")


def test_an_unknown_need_says_its_width_and_where_to_look():
    assert "an encoder 77 wide" in wrong_encoder("x", EncoderNeed(77))
    message = wrong_encoder("x", EncoderNeed(77, image_embeds=True))
    assert "an encoder with a pooled embedding 77 wide" in message
    assert "the adapter's page names" in message


def test_an_adapter_that_reads_states_does_without_a_projection():
    check_sizes(EncoderSizes(1280), EncoderNeed(1280), "x")
