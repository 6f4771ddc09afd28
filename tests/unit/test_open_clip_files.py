"""CLIP's towers are found in files by their tensors, in both layouts, and come out under open_clip's names.

The files have the tensors of ComfyUI's own towers; nothing of it runs.
"""

import pytest
import torch
from comfyhost.encoders import clip_text, open_clip_g_text, vit_h
from comfyhost.weights import draw
from ipadapter_instruct.models.encoding.open_clip.files import (
    IMAGE,
    IMAGE_WEIGHTS,
    TEXT,
    TEXT_WEIGHTS,
    find_tower,
    read_tower,
)
from ipadapter_instruct.models.files.encoder_files import EncoderSizes
from safetensors.torch import save_file
from support.small_files import adapter_tensors


def meta(blueprint) -> dict[str, torch.Tensor]:
    return {name: torch.empty(weight.shape, device="meta") for name, weight in blueprint.items()}


def behind(prefix: str, tensors: dict) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def image_tensors(width: int = 1280, layers: int = 2, patches: int = 4) -> dict[str, torch.Tensor]:
    """In transformers' names, without numbers."""
    return meta(vit_h(width=width, layers=layers, patches=patches))


def text_tensors(width: int = 768, layers: int = 2) -> dict[str, torch.Tensor]:
    return meta(clip_text(width, layers))


def in_open_clips_names(tensors: dict, kind) -> dict[str, torch.Tensor]:
    return dict(find_tower(tensors, kind, "a file").tensors)


def refusal(tensors: dict, kind) -> str:
    with pytest.raises(ValueError, match="was expected to hold") as caught:
        find_tower(tensors, kind, "some.safetensors")
    assert str(caught.value).startswith("some.safetensors ")
    return str(caught.value)


# What comes out


@pytest.fixture(scope="module")
def drawn():
    """A small ViT-L in transformers' names, and what it becomes."""
    tensors = draw(vit_h(width=1024, layers=2, patches=4), seed=1, dtype=torch.float16)
    return tensors, find_tower(tensors, IMAGE, "a file").tensors


def test_query_key_and_value_are_one_matrix_in_this_order(drawn):
    tensors, found = drawn
    parts = [tensors[f"vision_model.encoder.layers.1.self_attn.{x}_proj.weight"] for x in "qkv"]
    assert torch.equal(found["transformer.resblocks.1.attn.in_proj_weight"], torch.cat(parts))


def test_the_projection_is_transposed(drawn):
    tensors, found = drawn
    assert torch.equal(found["proj"], tensors["visual_projection.weight"].T)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("class_embedding", "embeddings.class_embedding"),
        ("conv1.weight", "embeddings.patch_embedding.weight"),
        ("positional_embedding", "embeddings.position_embedding.weight"),
        ("ln_pre.bias", "pre_layrnorm.bias"),
        ("ln_post.weight", "post_layernorm.weight"),
        ("transformer.resblocks.0.attn.out_proj.bias", "encoder.layers.0.self_attn.out_proj.bias"),
        ("transformer.resblocks.1.mlp.c_proj.weight", "encoder.layers.1.mlp.fc2.weight"),
        ("transformer.resblocks.1.ln_2.weight", "encoder.layers.1.layer_norm2.weight"),
    ],
)
def test_every_other_tensor_is_the_files_own(drawn, ours, theirs):
    tensors, found = drawn
    assert found[ours] is tensors[f"vision_model.{theirs}"]


def test_tensors_in_open_clips_names_stay_what_they_are(drawn):
    _, found = drawn
    again = in_open_clips_names(behind("visual.", found), IMAGE)
    assert again.keys() == found.keys()
    assert all(again[name] is found[name] for name in found)


def test_of_a_whole_clip_in_open_clips_names_each_tower_is_found(drawn):
    _, image = drawn
    text = in_open_clips_names(text_tensors(), TEXT)
    whole = {**behind("visual.", image), **text, "logit_scale": torch.zeros(()), "text_projection": torch.zeros(9, 9)}
    assert in_open_clips_names(whole, IMAGE).keys() == image.keys()
    assert in_open_clips_names(whole, TEXT).keys() == text.keys()


def test_the_tower_is_read_from_safetensors_and_from_a_pickle(drawn, tmp_path):
    tensors, expected = drawn
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save({"epoch": 3, "state_dict": behind("module.visual.", expected)}, tmp_path / "x.pt")
    for path in tmp_path.iterdir():
        found = read_tower(path, IMAGE).tensors
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


# What it is


@pytest.mark.parametrize(("width", "title"), [(1280, "ViT-H-14"), (1664, "ViT-bigG-14"), (1024, "ViT-L-14")])
@pytest.mark.parametrize("patches", [256, 576])
def test_an_image_tower_and_its_sizes_are_read_off_its_tensors(width, title, patches):
    found = find_tower(image_tensors(width, 3, patches), IMAGE, "a file")

    assert found.tower.title == title
    assert (found.layers, found.mlp_width, found.patch_size) == (3, 4 * width, 14)
    assert found.image_size == 14 * patches**0.5
    assert found.encoder_sizes == EncoderSizes(width, 1024, patches + 1)


def test_an_image_tower_without_projection_has_no_projection_width():
    tensors = image_tensors()
    del tensors["visual_projection.weight"]
    assert find_tower(tensors, IMAGE, "a file").encoder_sizes == EncoderSizes(1280, None, 5)


@pytest.mark.parametrize("prefix", ["", "transformer.", "cond_stage_model.transformer.", "clip_l.transformer."])
def test_a_text_tower_in_transformers_names_is_found_behind_any_prefix(prefix):
    found = find_tower(behind(prefix, text_tensors(layers=3)), TEXT, "a file")
    assert (found.tower.title, found.layers, found.positions) == ("ViT-L-14", 3, 77)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_the_names_without_the_towers_own_prefix_are_known_too(kind):
    tensors, kind = (image_tensors(), IMAGE) if kind == "image" else (text_tensors(), TEXT)
    short = {name.removeprefix("vision_model.").removeprefix("text_model."): x for name, x in tensors.items()}
    assert in_open_clips_names(short, kind).keys() == in_open_clips_names(tensors, kind).keys()


def test_of_two_text_towers_the_known_one_is_taken():
    both = {**behind("clip_g.", text_tensors(1280)), **behind("clip_l.", text_tensors(768, layers=4))}
    assert find_tower(both, TEXT, "a file").layers == 4


def test_every_download_has_a_choice_and_a_file_name_of_its_own():
    for weights in (IMAGE_WEIGHTS, TEXT_WEIGHTS):
        assert len({one.choice for one in weights} | {one.stem for one in weights}) == 2 * len(weights)


def test_a_tower_says_its_file_and_its_layout(drawn):
    tensors, found = drawn
    assert find_tower(tensors, IMAGE, "a file").file == "a file"
    assert find_tower(tensors, IMAGE, "a file").layout == "transformers' names"
    assert find_tower(behind("visual.", found), IMAGE, "a file").layout == "open_clip's names"


def test_the_projection_lies_beside_the_tower_behind_any_prefix():
    assert find_tower(behind("clip.", image_tensors()), IMAGE, "a file").encoder_sizes.projection_width == 1024


def test_a_text_tower_has_no_projection():
    tensors = in_open_clips_names(text_tensors(), TEXT)
    assert "proj" not in in_open_clips_names({**tensors, "proj": torch.zeros(2, 2)}, TEXT)


# What is refused


@pytest.mark.parametrize("norm", [None, torch.zeros(())], ids=["missing", "without dimensions"])
def test_a_tower_whose_last_norm_tells_no_width_is_not_found(norm):
    tensors = {name: x for name, x in image_tensors().items() if name != "vision_model.post_layernorm.weight"}
    tensors |= {} if norm is None else {"vision_model.post_layernorm.weight": norm}
    assert "it holds other tensors" in refusal(tensors, IMAGE)


@pytest.mark.parametrize("prefix", ["x", "visual_"])
def test_names_that_only_end_like_a_towers_are_none(prefix, drawn):
    assert "it holds other tensors" in refusal(behind(prefix, drawn[1]), IMAGE)


def test_parts_of_two_widths_are_refused_with_the_files_name(drawn):
    tensors = {**drawn[0], "vision_model.encoder.layers.0.self_attn.k_proj.weight": torch.zeros(2)}
    assert "of one width" in refusal(tensors, IMAGE)


def test_a_missing_tensor_is_named_and_the_others_counted():
    tensors = image_tensors()
    del tensors["vision_model.pre_layrnorm.weight"]
    assert "vision_model.pre_layrnorm.weight is missing" in refusal(tensors, IMAGE)
    for which in "qkv":
        del tensors[f"vision_model.encoder.layers.0.self_attn.{which}_proj.bias"]
    assert "self_attn.v_proj.bias and 1 more are missing. It is incomplete" in refusal(tensors, IMAGE)


def test_a_layer_left_out_is_missed():
    tensors = {name: x for name, x in text_tensors(layers=3).items() if ".layers.1." not in name}
    assert "text_model.encoder.layers.1." in refusal(tensors, TEXT)


def test_a_tower_with_more_in_its_layers_is_another_model():
    extra = "visual.transformer.resblocks.0.ls_1.gamma"
    tensors = {**behind("visual.", in_open_clips_names(image_tensors(), IMAGE)), extra: torch.zeros(1280)}
    assert f"{extra} is unknown. It is another model" in refusal(tensors, IMAGE)


def test_a_tower_of_an_unknown_width_is_refused_with_the_known_ones():
    message = refusal(image_tensors(768), IMAGE)
    assert "its image tower is 768 wide" in message
    assert "ViT-H-14 (1280 wide), ViT-bigG-14 (1664 wide), ViT-L-14 (1024 wide)" in message


def test_text_towers_that_read_no_instructions_are_refused():
    assert "its text tower is 1280 wide" in refusal(meta(open_clip_g_text(layers=1)), TEXT)


@pytest.mark.parametrize(
    ("tensors", "kind", "found"),
    [
        (image_tensors, TEXT, "it holds an image tower only"),
        (text_tensors, IMAGE, "it holds a text tower only"),
        (adapter_tensors, IMAGE, "it holds other tensors, such as image_proj."),
        (dict, TEXT, "it holds no tensors"),
    ],
    ids=["an image encoder", "a text encoder", "an adapter", "nothing"],
)
def test_other_files_are_refused_with_what_they_are(tensors, kind, found):
    message = refusal(tensors(), kind)
    assert found in message
    assert "Choose another file" in message


def test_a_damaged_file_and_a_pickle_with_code_are_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"<!DOCTYPE html>")
    torch.save({"visual": print}, tmp_path / "code.pt")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="^other.safetensors was expected to hold CLIP's image tower"):
        read_tower(tmp_path / "other.safetensors", IMAGE)
    with pytest.raises(ValueError, match="cannot be read"):
        read_tower(tmp_path / "cut.safetensors", IMAGE)
    with pytest.raises(ValueError, match="Nothing in it was run"):
        read_tower(tmp_path / "code.pt", IMAGE)
