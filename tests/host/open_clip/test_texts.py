"""Text towers by open_clip in ComfyUI's care, against transformers with the same weights.

The weights are random; both compute in float32. Absolute tolerance 1e-5; 4e-6 was measured, with states of
magnitude 5.
"""

import pytest
import torch
import transformers
from ipadapter_instruct.models.encoding.open_clip.towers import load_text_tower
from ipadapter_instruct.models.encoding.text_encoder import check_clip_l, encode_texts
from safetensors.torch import save_file
from support import small_encoders
from support.imported_comfyui import COMFYUI
from support.open_clip_towers import LAYOUTS, assert_same

pytestmark = pytest.mark.xdist_group("open_clip")  # one process loads the encoders for all

PROMPTS = ["a photo of a cat", "", "An ÉCLAIR, (please:1.2)...", " ".join(f"word{i}" for i in range(120))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_states_are_those_of_transformers_for_all_77_tokens(text_files, layout):
    tokenizer = transformers.CLIPTokenizer.from_pretrained(COMFYUI / "comfy" / "sd1_tokenizer")
    tokens = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = small_encoders.transformers_text_model(small_encoders.clip_l_weights())(
            input_ids=tokens
        ).last_hidden_state

    clip = load_text_tower(text_files[layout])
    hidden_states = encode_texts(clip, PROMPTS)

    check_clip_l(clip)
    assert list(hidden_states) == PROMPTS
    assert {(state.shape, state.dtype) for state in hidden_states.values()} == {((1, 77, 768), torch.float32)}
    assert_same(torch.cat(list(hidden_states.values())), expected)


def test_text_states_are_those_of_the_graphs_own_clip_l(clip):
    theirs = encode_texts(small_encoders.load_text_encoder("sd15"), PROMPTS)
    ours = encode_texts(clip, PROMPTS)
    for text in PROMPTS:
        assert_same(ours[text], theirs[text])


def test_of_a_long_clip_the_first_77_places_are_used(tmp_path):
    weights = dict(small_encoders.clip_l_weights(2))
    name = "text_model.embeddings.position_embedding.weight"
    for file, positions in (("short", weights[name]), ("long", torch.cat([weights[name]] * 3))):
        save_file({**weights, name: positions}, tmp_path / f"{file}.safetensors")
    short, long = (load_text_tower(tmp_path / f"{file}.safetensors") for file in ("short", "long"))
    assert torch.equal(encode_texts(short, ["a"])["a"], encode_texts(long, ["a"])["a"])


def test_of_a_shorter_clip_all_places_are_used(tmp_path):
    weights = small_encoders.with_positions(small_encoders.clip_l_weights(12), 20)
    save_file(weights, tmp_path / "short.safetensors")
    found = encode_texts(load_text_tower(tmp_path / "short.safetensors"), PROMPTS)
    expected = encode_texts(small_encoders.load_text_encoder("sd15", positions=20), PROMPTS)
    for text in PROMPTS:
        assert found[text].shape == (1, 20, 768)
        assert_same(found[text], expected[text])


def test_a_clip_without_clip_l_is_told_of_the_node():
    with pytest.raises(ValueError, match="or Load open_clip for Instruct"):
        check_clip_l(small_encoders.sd2_clip())
