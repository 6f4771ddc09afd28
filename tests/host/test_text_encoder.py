"""Texts for the resampler, by a real CLIP-L in ComfyUI's classes, against transformers and open_clip.

The weights are random, rounded to fp16 and computed with in float32; states are of magnitude 4.
Absolute tolerance 1e-4; 4e-6 was measured.
"""

import contextlib
from types import SimpleNamespace

import comfy.model_patcher
import open_clip
import pytest
import torch
import transformers
from ipadapter_instruct.models.encoding.text_encoder import check_clip_l, encode_texts
from ipadapter_instruct.models.training.dataset import Encoders
from support import small_encoders
from support.imported_comfyui import COMFYUI

pytestmark = pytest.mark.xdist_group("clip")  # one process loads the encoders for all

CPU = torch.device("cpu")
TOLERANCE = 1e-4
END = 49407
LONG_WORD = "incomprehensibilities"
PROMPTS = {
    "ordinary": "a photo of a cat",
    "brackets": "(a:1.3) [b] {c} \\(d\\)",
    "empty": "",
    "capitals and accents": "  An ÉCLAIR,\n\nplease... ",
    "120 words": " ".join(f"word{i}" for i in range(120)),
    "a word across token 75": "cat " * 73 + LONG_WORD,
    "an embedding's name": "a photo of embedding:foo",
}
KINDS = ["sd15", "sdxl", "sd3"]


@pytest.fixture(scope="module")
def clips():
    return {kind: small_encoders.load_text_encoder(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def states(clips):
    """Every kind's states of all prompts together, [prompts, 77, 768]."""
    return {kind: stacked(encode_texts(clip, PROMPTS.values())) for kind, clip in clips.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.CLIPTokenizer.from_pretrained(COMFYUI / "comfy" / "sd1_tokenizer")


@pytest.fixture(scope="module")
def token_ids(tokenizer):
    texts = list(PROMPTS.values())
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


@pytest.fixture(scope="module")
def transformers_states(token_ids):
    model = small_encoders.transformers_text_model(small_encoders.clip_l_weights())
    with torch.no_grad():
        return model(input_ids=token_ids).last_hidden_state


def stacked(by_text: dict) -> torch.Tensor:
    return torch.cat([by_text[text] for text in PROMPTS.values()])


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_transformers_last_hidden_state(states, transformers_states, kind):
    assert transformers_states.shape == (len(PROMPTS), 77, 768)
    assert_same(states[kind], transformers_states)


@torch.no_grad()
def open_clip_states(tokens: torch.Tensor) -> torch.Tensor:
    tower = small_encoders.open_clip_text_model(small_encoders.clip_l_weights())
    last_block = {"indices": 1, "normalize_intermediates": True, "intermediates_only": True}
    return tower.forward_intermediates(tokens, output_fmt="NLC", **last_block)["text_intermediates"][0]


@pytest.mark.long("transformers' states are the same")
def test_states_are_those_of_open_clips_text_tower_for_every_token(states, token_ids):
    assert_same(states["sd15"], open_clip_states(token_ids))


@pytest.mark.long("transformers' states are the same")
def test_states_are_those_of_open_clips_own_tokenizer_up_to_the_end_of_the_text(states):
    tokens = open_clip.get_tokenizer("ViT-L-14-quickgelu")(list(PROMPTS.values()))  # pads with 0
    text = torch.arange(77) <= (tokens == END).int().argmax(dim=1, keepdim=True)

    assert_same(states["sd15"][text], open_clip_states(tokens)[text])


def test_the_word_across_token_75_is_cut_inside(tokenizer, token_ids):
    pieces = tokenizer(LONG_WORD).input_ids[1:-1]
    last_tokens = token_ids[list(PROMPTS).index("a word across token 75")][74:].tolist()
    assert len(pieces) > 2
    assert last_tokens == [*pieces[:2], END]


def test_each_text_is_encoded_as_if_it_were_alone(clips, states):
    for number, text in list(enumerate(PROMPTS.values()))[:3]:
        alone = encode_texts(clips["sd15"], [text])
        assert_same(alone[text][0], states["sd15"][number])


def test_the_same_text_twice_is_one_text(clips):
    states = encode_texts(clips["sd15"], ["a", "b", "a"])
    assert list(states) == ["a", "b"]
    assert {state.shape for state in states.values()} == {(1, 77, 768)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_skip_changes_nothing_of_the_states(clips, kind):
    skipping = clips[kind].clone()
    skipping.clip_layer(-2)

    found, expected = (encode_texts(clip, ["use the style", ""]) for clip in (skipping, clips[kind]))

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[text], expected[text]) for text in expected)


def users_own_encoding(clip) -> torch.Tensor:
    return clip.encode_from_tokens(clip.tokenize("a (photo:1.2) of a cat"))


@pytest.mark.parametrize("skip", [None, -1, -2, -3])
@pytest.mark.parametrize("kind", ["sd15", "sd3"])
def test_the_users_own_encoding_is_bit_identical_before_and_after(clips, kind, skip):
    clip = clips[kind].clone()
    if skip is not None:
        clip.clip_layer(skip)
    before = users_own_encoding(clip)

    encode_texts(clip, ["use the style"])

    assert torch.equal(users_own_encoding(clip), before)


def test_the_users_own_encoding_does_depend_on_the_clip_skip(clips):
    skipping = clips["sd15"].clone()
    skipping.clip_layer(-2)
    assert not torch.allclose(users_own_encoding(skipping), users_own_encoding(clips["sd15"]), atol=1e-2)


def layer_options(clip) -> tuple:
    encoder = clip.cond_stage_model.clip_l
    return encoder.layer, encoder.layer_idx, encoder.return_projected_pooled


@pytest.mark.parametrize("fails", [False, True], ids=["an encoding", "an encoding that fails"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_encoders_options_are_the_default_again_after(clips, kind, fails):
    encoder = clips[kind].cond_stage_model.clip_l
    runs = []

    def watch(*_):
        runs.append(encoder.layer)
        if fails:
            raise RuntimeError("interrupted")

    hook = encoder.transformer.text_model.encoder.layers[0].register_forward_pre_hook(watch)
    with pytest.raises(RuntimeError, match="interrupted") if fails else contextlib.nullcontext():
        encode_texts(clips[kind], ["use the style"])
    hook.remove()

    assert runs == ["last"]
    assert layer_options(clips[kind]) == encoder.options_default


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (small_encoders.sd2_clip, "SD2ClipModel"),
        (small_encoders.sd3_clip_without_clip_l, "SD3ClipModel"),
        (lambda: None, "none"),
    ],
)
def test_a_clip_without_clip_l_is_refused(make, found):
    with pytest.raises(ValueError, match="A CLIP .*was expected") as caught:
        check_clip_l(make())
    assert found in str(caught.value)
    assert "Connect " in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_long_clip_the_first_77_states_serve_for_texts_of_any_length(transformers_states, kind):
    """Its first 77 places are those of the other, and no token sees one behind it."""
    clip = small_encoders.load_text_encoder(kind, positions=248)
    assert_same(stacked(encode_texts(clip, PROMPTS.values())), transformers_states)


def test_training_reads_texts_with_a_long_clip_as_sampling_does():
    clip = small_encoders.load_text_encoder("sd15", positions=248)
    before = users_own_encoding(clip)

    encoded = Encoders(clip, None, None, (16, 16)).encode_text("use the style")

    assert torch.equal(encoded["embeds"], encode_texts(clip, ["use the style"])["use the style"][0].half())
    assert (encoded["embeds"].shape, encoded["context"].shape) == ((77, 768), (248, 768))
    assert torch.equal(users_own_encoding(clip), before)


@pytest.mark.parametrize("positions", [20, 77, 78])
def test_a_tower_of_any_length_gives_the_states_it_has_up_to_77(tokenizer, positions):
    clip = small_encoders.load_text_encoder("sd15", positions)
    length = min(positions, 77)
    inputs = tokenizer(list(PROMPTS.values()), padding="max_length", max_length=length, truncation=True)
    model = small_encoders.transformers_text_model(small_encoders.clip_l_weights())
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(inputs.input_ids)).last_hidden_state

    found = stacked(encode_texts(clip, PROMPTS.values()))

    assert found.shape == (len(PROMPTS), length, 768)
    assert_same(found, expected)


def test_stored_states_are_those_of_the_clip_that_reads_instructions():
    """Each instruct_clip has a mark of its own, so that what the last one read is not taken for another's."""
    module = torch.nn.Linear(1, 1)
    vae = SimpleNamespace(first_stage_model=module, patcher=comfy.model_patcher.ModelPatcher(module, CPU, CPU))
    clip_vision = small_encoders.clip_vision()
    readers = [None, small_encoders.small_clip(seed=1), small_encoders.small_clip(seed=2)]
    made = [Encoders(small_encoders.small_clip(), vae, clip_vision, (16, 16), reader) for reader in readers]
    marks = [one.fingerprints() for one in made]
    assert len({mark.get("instruction") for mark in marks}) == 3
    assert len({mark["text"] for mark in marks}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_with_clip_l_is_accepted(clips, kind):
    check_clip_l(clips[kind])
