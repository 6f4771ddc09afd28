"""Wrong files, through the nodes themselves: every message says what was expected, what was found and what to do."""

import pytest
import torch
from safetensors.torch import save_file
from support import small_files
from support.node_runs.model_files import GET_VIT_H, encode, load
from support.refusals import refused

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all


@pytest.mark.parametrize(
    ("file", "found"), [("vit-l.safetensors", "ViT-L (1024 wide)"), ("bigg.safetensors", "ViT-bigG (1664 wide)")]
)
def test_a_chosen_encoder_file_of_the_wrong_width_is_refused_at_loading(folders, file, found):
    parts = ("needs the image encoder ViT-H (1280 wide)", f"{file} is {found}", GET_VIT_H)
    refused(lambda: load(image_encoder=file), *parts)


def test_auto_without_a_fitting_encoder_file_says_which_to_get_when_it_is_needed(folders, vit_h):
    adapter = load(image_encoder="auto")
    refused(
        lambda: encode(None, adapter),
        "needs the image encoder ViT-H (1280 wide)",
        "no .safetensors file in models/clip_vision is one",
        GET_VIT_H,
        "Or connect one to the loader's clip_vision.",
    )
    assert encode(vit_h, adapter).args  # a connected encoder is enough


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("broken.safetensors", b"\x10\0\0\0\0\0\0\0{}", "ComfyUI cannot read it"),
        ("page.bin", b"<!DOCTYPE html>", "ComfyUI cannot read it"),
    ],
)
def test_a_chosen_encoder_file_that_cannot_be_read_is_refused(folders, name, content, found):
    path = folders["clip_vision"] / name
    path.write_bytes(content)
    adapter = load(image_encoder=name)
    refused(lambda: encode(None, adapter), f"{name} was expected to be an image encoder", found, "choose another one")


@pytest.mark.parametrize(
    ("save", "wrong", "right"), [(torch.save, ".safetensors", ".bin"), (save_file, ".bin", ".safetensors")]
)
def test_a_chosen_encoder_file_under_the_suffix_of_another_format_is_to_be_renamed(folders, save, wrong, right):
    path = folders["clip_vision"] / f"vit-h{wrong}"
    save({"vision_model.embeddings.class_embedding": torch.zeros(1280)}, path)
    adapter = load(image_encoder=path.name)
    found = f"{path.name} was expected to be of the format that its name says"
    refused(lambda: encode(None, adapter), found, f"Rename it to end in {right}", "choose it again")
    path.unlink()


def test_a_chosen_file_of_the_right_width_that_is_no_whole_encoder_is_refused(folders):
    small_files.save_encoder_header(folders["clip_vision"] / "stub.safetensors", 1280)
    adapter = load(image_encoder="stub.safetensors")
    refused(lambda: encode(None, adapter), "stub.safetensors was expected to be", "knows no encoder", "Choose another")
    (folders["clip_vision"] / "stub.safetensors").unlink()


def test_an_adapter_file_with_missing_weights_names_them(folders):
    refused(
        lambda: load("lacking.bin"),
        "An IPAdapter-Instruct or IP-Adapter file was expected; 1 of its tensors are missing",
        "image_proj.proj_in.weight",
        "Download it again",
    )
