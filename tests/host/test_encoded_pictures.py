"""Pictures that CLIP Vision Encode or IPAdapter Plus has encoded: the same as the pictures themselves, bit for bit."""

from dataclasses import replace

import pytest
import torch
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.image_encoder import zero_hidden_states
from ipadapter_instruct.models.guidance.branches import Branch
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from support import pack_nodes, small_encoders, small_files
from support.node_runs.saved_embeds import load, save
from support.pack_nodes import run_node
from support.readable_adapters import OF_REFERENCE, Runs, row_of
from support.refusals import refused
from support.small_models import FAMILIES

import nodes as host_nodes

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all

TEXTS = {"task": OWN_WORDS, "instruction": "use the pose", "prompt": "a (red:1.3) dog", "negative_prompt": "blurry"}


@pytest.fixture(scope="module")
def vit_h():
    """An image encoder with ViT-H's width and picture size, two layers deep."""
    return small_encoders.clip_vision(width=1280, layers=2)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """By family, from the loader, without an image encoder."""
    with pack_nodes.model_folders(tmp_path_factory.mktemp("models")) as folders:
        for family in FAMILIES:
            small_files.save_adapter(
                small_files.adapter_tensors(family), folders["ipadapter"] / f"{family}.safetensors"
            )
        yield {
            family: run_node(
                IPAdapterInstructLoader, adapter_name=f"{family}.safetensors", image_encoder="auto", lora_strength=1.0
            ).args[0]
            for family in FAMILIES
        }


@pytest.fixture(scope="module")
def picture():
    return torch.rand(2, 250, 300, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def output(vit_h, picture):
    """ComfyUI's CLIP Vision Encode of the picture."""
    with torch.inference_mode():
        return host_nodes.CLIPVisionEncode().encode(vit_h, picture, "center")[0]


@pytest.fixture(scope="module")
def states(output):
    return output.penultimate_hidden_states


def encode_stored(loaded, clip_vision=None, **inputs):
    """Encode's outputs for a reference of Instruct Reference. clip_vision: as if connected to the loader."""
    own = {name: inputs.pop(name) for name in ("image", *OF_REFERENCE) if name in inputs}
    given = {"adapter": replace(loaded, clip_vision=clip_vision), "clip": small_encoders.small_clip(), **TEXTS}
    return run_node(IPAdapterInstructEncode, **{**given, **inputs}, references=row_of(own)).args


def same_tokens(found: InstructEmbeds, expected: InstructEmbeds) -> None:
    for branch in Branch:
        assert torch.equal(found.image_tokens[branch], expected.image_tokens[branch]), branch
    assert found.adapter is expected.adapter
    assert found.instruction == expected.instruction


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("crop", "fit"), [("center", "center crop"), ("none", "stretch")])
def test_a_picture_read_by_clip_vision_encode_is_the_picture_itself(adapters, vit_h, picture, family, crop, fit):
    expected, *conditioning = encode_stored(adapters[family], image=picture, fit=fit, clip_vision=vit_h)
    (read,) = host_nodes.CLIPVisionEncode().encode(vit_h, picture, crop)
    found, *texts = encode_stored(adapters[family], clip_vision_output=read, clip_vision=vit_h)

    same_tokens(found, expected)
    assert found.image_tokens.full.shape[:2] == (1, 32)
    for one, other in zip(texts, conditioning, strict=True):
        assert torch.equal(one[0][0], other[0][0])


@pytest.mark.parametrize("family", FAMILIES)
def test_plus_embeds_are_the_same_picture(adapters, vit_h, output, states, family):
    given = {"clip_vision": vit_h}
    (found, *_), (expected, *_) = (
        encode_stored(adapters[family], **given, **{name: value})
        for name, value in (("embeds", states), ("clip_vision_output", output))
    )
    same_tokens(found, expected)


def test_half_precision_embeds_are_taken(adapters, vit_h, states):
    (found, *_), (expected, *_) = (
        encode_stored(adapters["sd15"], embeds=each, clip_vision=vit_h)
        for each in (states.half(), states.half().float())
    )
    same_tokens(found, expected)


def test_the_image_encoder_runs_for_the_blank_picture_once_and_never_again(adapters, states):
    encoder = small_encoders.clip_vision(width=1280, layers=2)
    runs = Runs(encoder)
    seen = [
        encode_stored(adapters["sd15"], embeds=states, clip_vision=encoder, **changes)[0].image_tokens.full
        for changes in ({}, {"instruction": "use the style"}, {"prompt": "a cat"})
    ]
    assert runs.sizes == [1]
    assert not any(torch.allclose(seen[0], other, atol=1e-3) for other in seen[1:])


def test_with_neg_embeds_no_image_encoder_runs_nor_is_one_needed(adapters, vit_h, states):
    blank = zero_hidden_states(vit_h).clone()
    runs = Runs(vit_h)
    expected, *_ = encode_stored(adapters["sd15"], embeds=states, clip_vision=vit_h)
    found, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=blank)
    several, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=blank.repeat(2, 1, 1), clip_vision=vit_h)

    same_tokens(found, expected)
    same_tokens(several, expected)
    assert runs.sizes == []


def test_plus_neg_embed_is_a_black_picture_and_another_uncond(adapters, vit_h, states):
    """The zero image as IPAdapter Plus's encoder makes it: an image of zeros, then normalised."""
    black = vit_h.encode_image(torch.zeros(1, 224, 224, 3)).penultimate_hidden_states
    as_trained, *_ = encode_stored(adapters["sd15"], embeds=states, clip_vision=vit_h)
    found, *_ = encode_stored(adapters["sd15"], embeds=states, neg_embeds=black)

    assert torch.equal(found.image_tokens.full, as_trained.image_tokens.full)
    assert not torch.allclose(found.image_tokens.uncond, as_trained.image_tokens.uncond, atol=1e-3)


def test_saved_stored_pictures_sample_as_the_picture_would(adapters, vit_h, states, places):
    embeds, *_ = encode_stored(adapters["sdxl"], embeds=states, clip_vision=vit_h)
    save(embeds)
    same_tokens(load(adapters["sdxl"].adapter), embeds)


EITHER = "Connect one of image, clip_vision_output and embeds, or a face"
EXPECTED = "was expected to be the penultimate hidden states of ViT-H (1280 wide), [n, 257, 1280]; it is "
WRONG_STATES = {
    "pooled, of a base IP-Adapter": (torch.zeros(1, 1024), "[1, 1024], pooled embeds, as of a base IP-Adapter"),
    "pooled, of bigG": (torch.zeros(2, 1280), "[2, 1280], pooled embeds"),
    "of ViT-L": (torch.zeros(1, 257, 1024), "[1, 257, 1024], hidden states of ViT-L (1024 wide)"),
    "of bigG": (torch.zeros(1, 257, 1664), "[1, 257, 1664], hidden states of ViT-bigG (1664 wide)"),
    "of Kolors": (torch.zeros(1, 577, 1024), "[1, 577, 1024], hidden states of ViT-L"),
    "of larger pictures": (torch.zeros(1, 577, 1280), "[1, 577, 1280], hidden states of 577 positions"),
    "of an old pack": (torch.zeros(2, 1, 257, 1280), "[2, 1, 257, 1280], embeds that an old IPAdapter Plus saved"),
    "of no picture": (torch.zeros(0, 257, 1280), "[0, 257, 1280], no picture at all"),
    "without axes": (torch.tensor(1.0), "[], something else"),
    "no tensor": ({"cond": 1}, "dict"),
}


@pytest.mark.parametrize("case", WRONG_STATES)
@pytest.mark.parametrize("name", ["embeds", "neg_embeds"])
def test_states_of_another_kind_are_refused_with_what_they_are(adapters, states, name, case):
    wrong, found = WRONG_STATES[case]
    inputs = {"embeds": states, name: wrong}
    refused(lambda: encode_stored(adapters["sd15"], **inputs), f"{name} {EXPECTED}{found}", "Encode the picture with")


def test_an_output_of_another_encoder_or_without_states_is_refused(adapters):
    wrong = small_encoders.clip_vision(width=160, layers=2).encode_image(torch.rand(1, 224, 224, 3))
    parts = (f"clip_vision_output {EXPECTED}", "[1, 257, 160]", "an encoder 160 wide", "Encode the picture with")
    refused(lambda: encode_stored(adapters["sd15"], clip_vision_output=wrong), *parts)
    refused(lambda: encode_stored(adapters["sd15"], clip_vision_output=object()), "clip_vision_output", "NoneType")


def test_states_that_are_not_numbers_are_refused(adapters, states):
    wrong = states.clone()
    wrong[0, 3, 5] = float("nan")
    refused(lambda: encode_stored(adapters["sd15"], embeds=wrong), "embeds", "NaN", "Encode the picture again")


def test_several_blank_pictures_that_differ_are_refused(adapters, states):
    parts = ("neg_embeds was expected to be one blank picture's", "2 different pictures'", "or nothing")
    refused(lambda: encode_stored(adapters["sd15"], embeds=states, neg_embeds=states), *parts)


def test_one_of_the_two_must_be_connected_and_not_both(adapters, output, states):
    refused(lambda: encode_stored(adapters["sd15"]), EITHER, "connected: none")
    both = {"clip_vision_output": output, "embeds": states}
    refused(lambda: encode_stored(adapters["sd15"], **both), EITHER, "connected: clip_vision_output and embeds")


def test_without_neg_embeds_and_without_an_encoder_the_message_says_which_to_get(adapters, states):
    refused(lambda: encode_stored(adapters["sd15"], embeds=states), "needs the image encoder ViT-H", "Get https://")


def test_a_clip_that_cannot_read_the_instruction_is_refused_before_anything_runs(adapters, states):
    encoder = small_encoders.clip_vision(width=1280, layers=2, patches=2)
    runs = Runs(encoder)
    inputs = {"embeds": states, "clip_vision": encoder}
    refused(lambda: encode_stored(adapters["sd15"], clip=None, **inputs), "A CLIP was expected")
    refused(lambda: encode_stored(adapters["sd15"], clip=small_encoders.sd2_clip(), **inputs), "A CLIP with a CLIP-L")
    assert runs.sizes == []
