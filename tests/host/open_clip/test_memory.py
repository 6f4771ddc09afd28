"""Both towers in memory: loaded, freed and found by ComfyUI, and as large as their files."""

import comfy.model_management as mm
import pytest
import torch
from ipadapter_instruct.models.encoding.image_encoder import encode_pixels
from ipadapter_instruct.models.encoding.open_clip.towers import load_image_tower, load_text_tower
from ipadapter_instruct.models.encoding.text_encoder import encode_texts
from support import small_encoders
from support.devices import dynamic_vram

pytestmark = pytest.mark.xdist_group("open_clip")  # one process loads the encoders for all


def test_both_are_loaded_freed_and_loaded_again_by_comfyui(encoder, clip, pixels):
    mm.unload_all_models()
    runs = [lambda: encode_pixels(encoder, pixels).hidden_states, lambda: encode_texts(clip, ["a cat"])["a cat"]]
    before = [run() for run in runs]
    assert all(one.patcher in mm.loaded_models() for one in (encoder, clip))

    mm.unload_all_models()

    assert mm.loaded_models() == []
    for run, hidden_states in zip(runs, before, strict=True):
        assert torch.equal(run(), hidden_states)


def test_comfyuis_caches_find_their_models(encoder, clip):
    for tower in (encoder, clip):
        assert tower.get_models() == [tower.patcher]
        if hasattr(tower.patcher, "is_dynamic"):
            assert not tower.is_dynamic()


def test_memory_is_the_towers_tensors_in_the_files_precision(encoder, clip, image_weights):
    weights = sum(weight.nbytes for weight in small_encoders.clip_l_weights().values())
    assert encoder.patcher.model_size() == sum(weight.nbytes for weight in image_weights.values())
    assert clip.patcher.model_size() == weights
    assert {p.dtype for p in clip.model.parameters()} == {torch.float16}


def test_weights_left_behind_on_another_device_come_to_the_input(encoder):
    """ComfyUI leaves some weights where they are when a card is too small."""
    assert encoder.model(pixel_values=torch.empty(1, 3, 28, 28, device="meta"))[0].is_meta
    assert {p.device.type for p in encoder.model.parameters()} == {"cpu"}


def test_the_copies_in_float32_are_made_a_layer_at_a_time(encoder, clip):
    """By ComfyUI's layers, which are told by that attribute; the tower's own tensors are few."""
    image, text = {"class_embedding", "positional_embedding", "proj"}, {"positional_embedding"}
    for tower, own in ((encoder, image), (clip, text)):
        others = [part for part in tower.model.modules() if not hasattr(part, "comfy_cast_weights")]
        assert {name for part in others for name, _ in part.named_parameters(recurse=False)} == own


@dynamic_vram.needs_dynamic_vram
def test_dynamic_vram_leaves_their_weights_to_the_layers_and_the_states_stay_the_same(
    image_files, text_files, tmp_path, pixels, monkeypatch
):
    paths = {}
    for kind, files in (("image", image_files), ("text", text_files)):
        paths[kind] = tmp_path / f"{kind} of its own.safetensors"
        paths[kind].write_bytes(files["transformers"].read_bytes())
    plain = load_image_tower(image_files["transformers"]), load_text_tower(text_files["transformers"])
    dynamic_vram.switch_on(monkeypatch)

    dynamic = load_image_tower(paths["image"]), load_text_tower(paths["text"])

    for found, expected in zip(states(*dynamic, pixels), states(*plain, pixels), strict=True):
        assert torch.equal(found, expected)
    for tower in dynamic:
        assert tower.is_dynamic()
        at_once = tower.patcher.model.model_loaded_weight_memory  # what no layer fetches when it runs: small tensors
        assert 0 < at_once < 0.01 * tower.patcher.model_size()
        assert tower.patcher.restore_loaded_backups() == at_once  # as when ComfyUI takes it out


def states(encoder, clip, pixels) -> tuple[torch.Tensor, torch.Tensor]:
    return encode_pixels(encoder, pixels).hidden_states, encode_texts(clip, ["a cat"])["a cat"]


def test_two_loads_of_a_file_are_one_model_and_a_changed_file_is_another(image_files, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(image_files["transformers"].read_bytes())
    first = load_image_tower(path)
    assert load_image_tower(path) is first
    replaced = tmp_path / "y.safetensors"
    replaced.write_bytes(image_files["open_clip"].read_bytes())
    replaced.replace(path)
    assert load_image_tower(path) is not first
