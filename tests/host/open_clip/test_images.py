"""Image towers by open_clip in ComfyUI's care, against transformers with the same weights.

The weights are random; both compute in float32. Absolute tolerance 1e-5; 1e-6 was measured
(3e-6 for a ViT-H of full size).
"""

import gc
import json
import sys
import weakref

import comfy.clip_vision
import comfy.model_management as mm
import open_clip
import pytest
import torch
import transformers
from ipadapter_instruct.models.encoding.image_encoder import (
    check_encoder,
    encode_pixels,
    image_features,
    zero_hidden_states,
)
from ipadapter_instruct.models.encoding.open_clip.files import IMAGE, find_tower
from ipadapter_instruct.models.encoding.open_clip.towers import build_image_tower, load_image_tower
from ipadapter_instruct.models.encoding.pixels import CENTER_CROP, STRETCH
from ipadapter_instruct.models.files.encoder_files import VIT_H_HIDDEN_STATES, EncoderSizes
from safetensors.torch import save_file
from support import small_encoders
from support.imported_comfyui import COMFYUI
from support.open_clip_towers import LAYOUTS, SMALL, assert_same

import nodes

pytestmark = pytest.mark.xdist_group("open_clip")  # one process loads the encoders for all


@pytest.fixture(scope="module")
def expected_image(image_weights, pixels):
    model = small_encoders.transformers_vision_model(image_weights, small_encoders.vit_config(**SMALL))
    with torch.no_grad():
        return model(pixel_values=pixels, output_hidden_states=True)


# Images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_image_states_and_embeddings_are_those_of_transformers(image_files, pixels, expected_image, layout):
    encoder = load_image_tower(image_files[layout])
    mm.load_models_gpu([encoder.patcher])

    last, penultimate, embedding, _ = encoder.model(pixel_values=pixels, intermediate_output=-2)

    assert encoder.sizes == EncoderSizes(1280, 1024, 5)
    assert_same(last, expected_image.last_hidden_state)
    assert_same(penultimate, expected_image.hidden_states[-2])
    assert_same(embedding, expected_image.image_embeds)
    assert_same(encode_pixels(encoder, pixels).hidden_states, expected_image.hidden_states[-2])
    assert_same(zero_hidden_states(encoder), expected_image.hidden_states[-2][1:])


def test_a_file_without_the_projection_gives_the_states(tmp_path, image_weights, encoder, pixels):
    weights = {name: weight for name, weight in image_weights.items() if name != "visual_projection.weight"}
    assert len(weights) == len(image_weights) - 1
    save_file(weights, tmp_path / "x.safetensors")
    without = load_image_tower(tmp_path / "x.safetensors")
    assert without.sizes == EncoderSizes(1280, None, 5)
    assert torch.equal(encode_pixels(without, pixels).hidden_states, encode_pixels(encoder, pixels).hidden_states)


@pytest.mark.parametrize("width", [1664, 1024])
def test_a_vit_bigg_and_a_vit_l_have_the_heads_and_the_activation_of_theirs(tmp_path, pixels, width):
    """The configurations that ComfyUI ships are the standard."""
    name = {1664: "clip_vision_config_g.json", 1024: "clip_vision_config_vitl.json"}[width]
    config = json.loads((COMFYUI / "comfy" / name).read_text())
    config |= {"num_hidden_layers": 2, "image_size": 28}
    torch.manual_seed(0)
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config)).eval()
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith("position_ids")}
    save_file(state, tmp_path / "x.safetensors")

    encoder = load_image_tower(tmp_path / "x.safetensors")

    features = encode_pixels(encoder, pixels)
    with torch.no_grad():
        expected = model(pixel_values=pixels, output_hidden_states=True)
    assert encoder.sizes == EncoderSizes(width, config["projection_dim"], 5)
    assert_same(features.hidden_states, expected.hidden_states[-2])
    assert_same(features.image_embeds, expected.image_embeds)


@pytest.mark.parametrize("name", ["ViT-H-14", "ViT-bigG-14", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"])
def test_a_tower_of_full_size_is_open_clips_own_tensor_for_tensor(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        own = open_clip.CustomTextCLIP(**config).visual.state_dict()

    weights = find_tower({f"visual.{key}": tensor for key, tensor in own.items()}, IMAGE, "a file")
    built = build_image_tower(weights).state_dict()

    assert weights.image_size == config["vision_cfg"]["image_size"]
    assert weights.layers == config["vision_cfg"]["layers"]
    shapes = {key.replace("in_proj.", "in_proj_"): tensor.shape for key, tensor in built.items()}
    assert shapes == {key: tensor.shape for key, tensor in own.items()}


def test_a_vit_bigg_of_full_size_in_transformers_names_has_all_that_open_clips_has():
    config = json.loads((COMFYUI / "comfy" / "clip_vision_config_g.json").read_text())
    with torch.device("meta"):
        state = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config)).state_dict()
    weights = find_tower(state, IMAGE, "a file")
    assert len(build_image_tower(weights).state_dict()) == 584
    assert weights.encoder_sizes == EncoderSizes(1664, 1280, 257)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_comfyuis_own_node_encodes_with_it(encoder, image_weights, crop):
    config = small_encoders.vit_config(**SMALL)
    theirs = small_encoders.clip_vision_of(config)
    theirs.load_sd({name: weight.half() for name, weight in image_weights.items()})
    picture = torch.rand(1, 40, 60, 3)

    found, expected = (nodes.CLIPVisionEncode().encode(one, picture, crop)[0] for one in (encoder, theirs))

    for name in ("last_hidden_state", "penultimate_hidden_states", "image_embeds"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0.01)  # theirs are in half precision
    assert found["mm_projected"] is None
    fit = {"center": CENTER_CROP, "none": STRETCH}[crop]
    assert torch.equal(image_features(encoder, picture, fit=fit).hidden_states, found["penultimate_hidden_states"])


def test_it_is_a_clip_vision_for_this_pack_too(encoder):
    assert isinstance(encoder, comfy.clip_vision.ClipVisionModel)
    check_encoder(encoder, VIT_H_HIDDEN_STATES, "it")


def test_the_same_picture_is_encoded_once_and_the_states_go_with_the_encoder(image_files, tmp_path):
    path = tmp_path / "of its own.safetensors"
    path.write_bytes(image_files["transformers"].read_bytes())
    encoder, runs = load_image_tower(path), []
    encoder.model.register_forward_hook(lambda *_: runs.append(1))
    picture = torch.rand(1, 28, 28, 3)

    first, second = (image_features(encoder, x).hidden_states for x in (picture, picture.clone()))

    assert torch.equal(first, second)
    assert len(runs) == 1
    gone = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert gone() is None


# Errors


def test_a_missing_open_clip_is_an_error_that_says_how_to_get_it(image_files, monkeypatch, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"unread")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match="pip install open_clip_torch , or let ComfyUI-Manager"):
        load_image_tower(path)


def test_tensors_that_do_not_fit_together_are_refused(tmp_path, image_weights):
    name = "vision_model.embeddings.position_embedding.weight"
    save_file({**image_weights, name: torch.zeros(7, 1280)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="^x.safetensors .* do not fit together .*positional_embedding"):
        load_image_tower(tmp_path / "x.safetensors")
