"""The narrow encoders that are trained compute what ComfyUI computes with the wide files made of them."""

import pytest
import torch
from drawn_world.in_process import comfy
from drawn_world.models import wide_image_encoder
from drawn_world.models.image_encoder import EMBEDDED, SEEN, ZERO, ImageEncoder, anchors_of
from drawn_world.models.text_encoder import (
    BLANK_HEIGHT,
    BLANKS,
    FIRST_BLANK,
    SHORT,
    SPELLED,
    TextEncoder,
    Tokens,
    codes,
    wide_weights,
)
from drawn_world.storage import compact, restored, save_tensors

TEXTS = ("", "a flat red cat in the middle on dots")


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(1)
    tokens = Tokens()
    return TextEncoder([token for words in TEXTS for token in tokens.of_words(words)]).eval()


@pytest.fixture(scope="module")
def clip(text, tmp_path_factory):
    """The text encoder as CLIPLoader gives it for SD3."""
    path = tmp_path_factory.mktemp("text") / "text.safetensors"
    save_tensors(wide_weights(dict(text.state_dict())), path, "for tests")
    yield comfy.sd.load_clip([str(path)], clip_type=comfy.sd.CLIPType.SD3)
    path.unlink()  # 246 MB


@pytest.mark.parametrize("words", TEXTS)
def test_comfyui_encodes_a_text_as_the_narrow_encoder_does(text, clip, words):
    with torch.inference_mode():
        states, pooled = clip.encode_from_tokens(clip.tokenize(words), return_pooled=True)
        own, own_pooled = text(torch.tensor([Tokens().of_text(words)]))
    channels = own.shape[-1]
    torch.testing.assert_close(states[:, :SHORT, :channels], own, rtol=0, atol=0.02)  # fp16 weights
    torch.testing.assert_close(pooled[:, :channels], own_pooled, rtol=0, atol=0.02)
    padding, blanks = states[:, SPELLED:-BLANKS], states[:, -BLANKS:]
    assert torch.equal(padding, padding[:, :1].expand_as(padding))
    torch.testing.assert_close(blanks[..., :channels], padding[:, :BLANKS, :channels], rtol=0, atol=0.05)
    marks = torch.zeros_like(states[..., channels:])
    marks[:, -BLANKS:, :BLANKS] = BLANK_HEIGHT * torch.eye(BLANKS)
    assert torch.equal(states[..., channels:], marks)


def test_resamplers_read_no_marks_of_blanks(clip):
    tokens = clip.tokenize("a flat cat")
    with torch.inference_mode():
        state, *_ = clip.cond_stage_model.clip_l.encode_token_weights(tokens["l"])
        last = clip.cond_stage_model.clip_l.transformer.text_model.final_layer_norm(state.float())
    assert state[0, -BLANKS:, FIRST_BLANK : FIRST_BLANK + BLANKS].any()
    assert not last[0, -BLANKS:, FIRST_BLANK : FIRST_BLANK + BLANKS].any()


def test_codes_are_at_right_angles_and_alike_in_length():
    every = torch.stack(list(codes().values()))
    torch.testing.assert_close(every @ every.T, every.shape[1] * torch.eye(len(every)), rtol=0, atol=1e-2)


def test_comfyui_encodes_an_image_as_the_narrow_encoder_does(tmp_path):
    torch.manual_seed(2)
    encoder = ImageEncoder().eval()
    with torch.no_grad():  # as training leaves it: what is seen is large, and marks are smaller in norms
        encoder.patches.weight *= 4
        for name, weight in encoder.named_parameters():
            if "norm" in name and name.endswith("weight"):
                weight[SEEN:] *= 0.7
    image = torch.rand(1, 12, 12, 3, generator=torch.Generator().manual_seed(3))
    image, path = image.repeat_interleave(8, 1).repeat_interleave(8, 2), tmp_path / "image.safetensors"
    wide = wide_image_encoder.wide_weights(dict(encoder.state_dict()))
    save_tensors({name: weight.half() for name, weight in wide.items()}, path, "for tests")
    host = comfy.clip_vision.load(str(path)).encode_image(image)
    path.unlink()  # 1.3 GB
    with torch.no_grad():
        states, few = (encoder.layers(image.movedim(-1, 1), whole)[-1] for whole in (True, False))
        embeddings = encoder(image.movedim(-1, 1))
    hidden = host["penultimate_hidden_states"]
    assert (hidden[..., :SEEN] - states.seen).abs().mean() < 0.02 * states.seen.abs().mean()
    torch.testing.assert_close(anchors_of(states.seen), few.seen, rtol=1e-4, atol=1e-4)
    assert not hidden[..., ZERO + 1 :].any()
    assert hidden[..., ZERO].abs().max() < 0.5
    likeness = torch.nn.functional.cosine_similarity(host["image_embeds"][:, :EMBEDDED], embeddings)
    assert likeness.min() > 0.99


def test_compact_weights_come_back_nearly():
    weights = {"large": torch.randn(128, 64), "bias": torch.randn(5), "count": torch.arange(3)}
    again = restored(compact(weights))
    assert {name: part.shape for name, part in again.items()} == {name: part.shape for name, part in weights.items()}
    assert torch.equal(again["count"], weights["count"])
    assert (again["large"] - weights["large"]).abs().max() < weights["large"].abs().max() / 120
