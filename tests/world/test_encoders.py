"""The small world's encoders, which are drawn and not trained."""

import random

import pytest
import torch
from comfyhost.encoders import vit_h
from small_world.captions import random_caption
from small_world.encoders import LENGTH, PICTURE_TOWER, SPELLED, drawn, passing_on, text_weights
from small_world.in_process import comfy
from small_world.scenes import random_scene
from small_world.short_texts import SHORT
from support import small_encoders as host_encoders

TEXT = "a big red star at the top left on a background with dots"


@pytest.fixture(scope="module")
def clip(text_file):
    """As CLIPLoader gives it for SD3."""
    return comfy.sd.load_clip([str(text_file)], clip_type=comfy.sd.CLIPType.SD3)


def host_states(clip, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)


@pytest.mark.parametrize("text", ["", TEXT])
def test_short_texts_are_what_comfyui_encodes_for_sd3_with_clip_l_alone(clip, short_texts, text):
    states, pooled = host_states(clip, text)
    short = short_texts.encode([text])
    assert states.shape == (1, LENGTH, 4096)
    torch.testing.assert_close(short.states, states[:, :SHORT, :768], rtol=0, atol=1e-5)
    torch.testing.assert_close(short.pooled, pooled[:, :768], rtol=0, atol=1e-5)
    assert not states[:, :, 768:].any()
    assert not pooled[:, 768:].any()


def test_all_padding_past_the_spelled_positions_is_one_state(clip):
    states, _ = host_states(clip, TEXT)
    assert torch.equal(states[:, SPELLED:], states[:, SPELLED : SPELLED + 1].expand(-1, LENGTH - SPELLED, -1))


@pytest.mark.parametrize("other", [TEXT.replace("red", "blue"), TEXT.replace("big red", "red big"), "a big red star"])
def test_other_words_and_another_order_have_other_states(short_texts, other):
    first, second = (short_texts.encode([text]) for text in (TEXT, other))
    assert (first.states - second.states).abs().max() > 1
    assert (first.pooled - second.pooled).abs().max() > 1e-3


def test_color_is_colour(short_texts):
    one, other = (short_texts.encode([f"use the {word} of it"]) for word in ("color", "colour"))
    assert torch.equal(one.states, other.states) and torch.equal(one.pooled, other.pooled)


def test_a_batch_is_each_text_alone(short_texts):
    both = short_texts.encode([TEXT, ""])
    for number, text in enumerate((TEXT, "")):
        torch.testing.assert_close(both.states[number], short_texts.encode([text]).states[0], rtol=0, atol=1e-5)


def test_a_text_with_more_tokens_than_are_spelled_is_refused(short_texts):
    with pytest.raises(ValueError, match="at most 31 tokens"):
        short_texts.encode(["star " * 32])


def test_every_caption_is_short_enough(short_texts):
    seeded = random.Random(0)
    for _ in range(400):
        short_texts.token_ids(random_caption(random_scene(seeded, pairs=1.0), seeded))


def test_a_seed_fixes_the_weights():
    name = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    first, second = text_weights(seed=5)[name], text_weights(seed=5)[name]
    assert torch.equal(first, second)
    assert not torch.equal(first, text_weights(seed=6)[name])


def test_the_image_encoders_later_layers_pass_their_input_on():
    """On a tower of ViT-H's structure and a fraction of its size."""
    width, layers, patches = 160, 5, 4
    weights = drawn(passing_on(vit_h(width, layers, patches=patches**2), PICTURE_TOWER, active=2), seed=3)
    model = host_encoders.clip_vision_of(host_encoders.vit_config(width, layers, patches))
    assert not model.load_sd(weights)[0]
    pixels = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    first, second, penultimate = (model.model(pixels, intermediate_output=layer)[1] for layer in (0, 1, -2))
    assert torch.equal(second, penultimate)
    assert not torch.equal(first, second)
