"""Texts that a CLIP has encoded are kept: what is handed out is what it would encode, and only what changed is run."""

import contextlib

import comfy.hooks
import pytest
import torch
from ipadapter_instruct.models.encoding import text_encoder
from ipadapter_instruct.models.encoding.text_encoder import (
    CACHED_TEXTS,
    TextCache,
    conditionings,
    encode_texts,
    text_hidden_states,
)
from support import small_encoders

pytestmark = pytest.mark.xdist_group("clip")

TEXTS = ("use the style", "a (house:1.2) by the sea", "")
WEIGHT = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"


@pytest.fixture
def clip():
    """One that has kept nothing yet."""
    return small_encoders.small_clip().clone()


@contextlib.contextmanager
def counted(clip):
    """An entry for each run of the text encoder."""
    runs = []
    layer = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0]
    hook = layer.register_forward_pre_hook(lambda *_: runs.append(1))
    try:
        yield runs
    finally:
        hook.remove()


def by_clip_text_encode(clip, text: str) -> torch.Tensor:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


@pytest.mark.parametrize("kept", [text_hidden_states, conditionings])
def test_only_texts_that_are_new_run_the_encoder(clip, kept):
    with counted(clip) as runs:
        kept(clip, TEXTS)
        assert len(runs) == 3
        kept(clip, (*TEXTS, "use the pose", TEXTS[0]))
        assert len(runs) == 4


def test_what_is_kept_is_bit_for_bit_what_would_be_encoded_in_any_company(clip):
    kept = [text_hidden_states(clip, texts) for texts in (TEXTS, TEXTS[1:], TEXTS)]
    alone = {text: encode_texts(clip.clone(), [text])[text] for text in TEXTS}
    assert all(torch.equal(states[text], alone[text]) for states in kept for text in states)
    for _ in range(2):
        found = conditionings(clip, TEXTS)
        assert all(torch.equal(one[0][0], by_clip_text_encode(clip, t)) for one, t in zip(found, TEXTS, strict=True))


def test_states_and_conditionings_of_a_text_are_not_confused(clip):
    states, ((conditioning, _),) = text_hidden_states(clip, ["a cat"])["a cat"], conditionings(clip, ["a cat"])[0]
    clip.clip_layer(-2)
    assert torch.equal(states, conditioning)  # of SD1.5, which ends with the last layer
    assert torch.equal(text_hidden_states(clip, ["a cat"])["a cat"], states)
    assert not torch.equal(conditionings(clip, ["a cat"])[0][0][0], conditioning)


def test_a_clip_with_other_weights_encodes_for_itself(clip):
    before = text_hidden_states(clip, TEXTS), conditionings(clip, TEXTS)
    patched = clip.clone()
    for model in (patched, clip):  # a clone, and one that is patched where it stands
        model.add_patches({WEIGHT: (torch.ones(3072, 768) * 0.01,)})
        assert not torch.equal(text_hidden_states(model, TEXTS)[TEXTS[0]], before[0][TEXTS[0]])
        assert not torch.equal(conditionings(model, TEXTS)[0][0][0], before[1][0][0][0])


def test_a_clip_with_hooks_is_encoded_anew_each_time(clip):
    clip.patcher.forced_hooks = comfy.hooks.HookGroup()
    clip.patcher.forced_hooks.add(comfy.hooks.WeightHook())
    with counted(clip) as runs:
        for _ in range(2):
            text_hidden_states(clip, TEXTS[:1])
    assert len(runs) == 2


def test_what_another_node_does_to_a_conditioning_does_not_come_back(clip):
    first = conditionings(clip, TEXTS[:1])[0]
    first[0][1]["area"] = (1, 2, 3, 4)
    first.append("more")
    (again,) = conditionings(clip, TEXTS[:1])
    assert len(again) == 1
    assert "area" not in again[0][1]


def test_a_text_that_fails_leaves_the_others_kept(clip, monkeypatch):
    def failing(clip, texts):
        if texts == ["fails"]:
            raise RuntimeError("interrupted")
        return encode_texts(clip, texts)

    monkeypatch.setattr(text_encoder, "encode_texts", failing)
    with pytest.raises(RuntimeError, match="interrupted"):
        text_hidden_states(clip, ["first", "fails"])
    with counted(clip) as runs:
        text_hidden_states(clip, ["first"])
    assert runs == []


def test_the_oldest_are_forgotten_first(clip):
    text_hidden_states(clip, [f"text {number}" for number in range(CACHED_TEXTS)])
    text_hidden_states(clip, ["text 0"])
    text_hidden_states(clip, ["one more"])
    with counted(clip) as runs:
        text_hidden_states(clip, ["text 0", "text 2", "one more"])
        assert runs == []
        text_hidden_states(clip, ["text 1"])
        assert len(runs) == 1


def test_they_go_with_their_clip():
    clip = small_encoders.small_clip().clone()
    text_hidden_states(clip, TEXTS)
    before = len(TextCache._by_owner)
    del clip
    assert len(TextCache._by_owner) == before - 1
