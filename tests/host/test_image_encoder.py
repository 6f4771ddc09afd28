"""Pictures to features by ComfyUI's CLIP vision models, against transformers and open_clip.

The weights are random, rounded to fp16 and computed with in float32; states are of magnitude 8.
Absolute tolerance 1e-4; 4e-6 was measured.
"""

import gc
import os
import weakref

import comfy.clip_vision
import pytest
import torch
from ipadapter_instruct.models.encoding.image_encoder import (
    CACHED_IMAGES,
    EncoderFile,
    FeatureCache,
    encode_pixels,
    image_features,
    zero_hidden_states,
)
from ipadapter_instruct.models.encoding.pixels import CENTER_CROP, FITS, PAD, STRETCH, pixel_values
from safetensors.torch import save_file
from support import small_encoders
from support.readable_adapters import Runs

pytestmark = pytest.mark.xdist_group("vit")  # one process loads the encoders for all

TOLERANCE = 1e-4
REAL = {"width": 1280, "layers": 32}
TINY = {"width": 80, "layers": 2, "patches": 2}


def hidden_states(*inputs, **options):
    return image_features(*inputs, **options).hidden_states


@pytest.fixture(scope="module")
def encoder():
    """ViT-H's structure at 224 pixels, 160 wide, four layers."""
    return small_encoders.clip_vision()


@pytest.fixture
def tiny():
    """A fresh encoder for 28 pixels."""
    return small_encoders.clip_vision(**TINY)


def pictures(number: int, height: int = 224, width: int = 224, seed: int = 0) -> torch.Tensor:
    """[number, height, width, 3], smooth enough for resampling to make sense of."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(number, 3, max(2, height // 16), max(2, width // 16), generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear").movedim(1, -1).contiguous()


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


# Parity


@torch.no_grad()
def transformers_states(sizes: dict, pixels: torch.Tensor) -> torch.Tensor:
    model = small_encoders.transformers_vision_model(
        small_encoders.vit_weights(**sizes), small_encoders.vit_config(**sizes)
    )
    return model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


@torch.no_grad()
def open_clip_states(sizes: dict, pixels: torch.Tensor) -> torch.Tensor:
    """The states before the last block, class token first."""
    tower = small_encoders.open_clip_vision_model(
        small_encoders.vit_weights(**sizes), small_encoders.vit_config(**sizes)
    )
    before_the_last = {"indices": 2, "intermediates_only": True, "output_extra_tokens": True}
    out = tower.forward_intermediates(pixels, output_fmt="NLC", **before_the_last)
    return torch.cat([out["image_intermediates_prefix"][0], out["image_intermediates"][0]], dim=1)


REFERENCES = {"transformers": transformers_states, "open_clip": open_clip_states}


@pytest.mark.parametrize("reference", REFERENCES)
def test_states_of_an_image_and_of_zeros_are_the_references(encoder, reference):
    image = pixel_values(encoder, pictures(1), None, CENTER_CROP)
    pixels = torch.cat([image, torch.zeros_like(image)])

    expected = REFERENCES[reference]({}, pixels)

    assert expected.shape == (2, 257, 160)
    assert_same(encode_pixels(encoder, pixels).hidden_states, expected)
    assert_same(hidden_states(encoder, pictures(1)), expected[:1])
    assert_same(zero_hidden_states(encoder), expected[1:])
    assert not torch.allclose(*expected, atol=0.1)


def test_comfyuis_loader_and_a_vit_h_of_real_size_give_transformers_states():
    encoder = comfy.clip_vision.load_clipvision_from_sd(small_encoders.vit_weights(**REAL))
    image = pixel_values(encoder, pictures(1), None, CENTER_CROP)
    pixels = torch.cat([image, torch.zeros_like(image)])

    found = encode_pixels(encoder, pixels).hidden_states

    assert found.shape == (2, 257, 1280)
    assert found.dtype == torch.float32
    assert_same(found, transformers_states(REAL, pixels))


# From a picture to pixels


@pytest.mark.parametrize(("fit", "crop"), [(CENTER_CROP, True), (STRETCH, False)])
@pytest.mark.parametrize("size", [(224, 224), (300, 200), (97, 513)], ids=str)
def test_features_are_bit_for_bit_those_of_comfyuis_own_encode_image(encoder, fit, crop, size):
    image = pictures(2, *size)
    expected = encoder.encode_image(image, crop=crop).penultimate_hidden_states
    assert torch.equal(hidden_states(encoder, image, fit=fit), expected)


def test_an_alpha_channel_is_left_out(encoder):
    image = pictures(1)
    with_alpha = torch.cat([image, torch.rand(1, 224, 224, 1)], dim=-1)
    found, expected = (pixel_values(encoder, x, None, CENTER_CROP) for x in (with_alpha, image))
    assert torch.equal(found, expected)


def normalised(image: torch.Tensor, encoder) -> torch.Tensor:
    """[B, H, W, 3] in 0..1 -> [B, 3, H, W]."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (encoder.image_mean, encoder.image_std))
    return (image.movedim(-1, 1) - mean) / std


@pytest.mark.parametrize("wide", [True, False], ids=["wide", "tall"])
def test_padding_adds_exact_zeros_around_the_unchanged_picture(encoder, wide):
    image = (pictures(1, 112, 224) * 255).round() / 255
    expected = torch.zeros(1, 3, 224, 224)
    expected[:, :, 56:168] = normalised(image, encoder)
    if not wide:
        image, expected = image.transpose(1, 2), expected.transpose(2, 3)

    found = pixel_values(encoder, image, None, PAD)

    assert torch.equal(found == 0, expected == 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_padded_picture_keeps_its_proportions(encoder):
    image = pictures(1, 300, 600)
    shrunk = torch.nn.functional.interpolate(image.movedim(-1, 1), (112, 224), mode="bicubic", antialias=True)

    found = pixel_values(encoder, image, None, PAD)

    inside, expected = found[:, :, 60:164], normalised(shrunk.movedim(1, -1), encoder)[:, :, 4:108]
    torch.testing.assert_close(inside, expected, rtol=0, atol=0.01)  # half a step of 8 bits is 0.0077
    assert (found[:, :, :52] == 0).all()
    assert (found[:, :, 172:] == 0).all()


def test_padding_a_square_picture_changes_nothing(encoder):
    image = pictures(1, 300, 300)
    assert torch.equal(pixel_values(encoder, image, None, PAD), pixel_values(encoder, image, None, CENTER_CROP))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(224, 224), (150, 260)], ids=str)
def test_a_full_mask_is_no_mask_bit_for_bit(encoder, fit, size):
    image = pictures(2, *size)
    found = hidden_states(encoder, image, torch.ones(1, 64, 64), fit)
    assert torch.equal(found, hidden_states(encoder, image, None, fit))


@pytest.mark.parametrize("fit", FITS)
def test_an_empty_mask_leaves_the_unconditional_image(encoder, fit):
    found = hidden_states(encoder, pictures(1, 150, 260), torch.zeros(1, 150, 260), fit)
    assert_same(found, zero_hidden_states(encoder))


def test_a_mask_blanks_what_it_leaves_out_and_keeps_the_rest(encoder):
    image, mask = pictures(1), torch.zeros(1, 224, 224)
    mask[:, :, :100] = 1
    found, whole = (pixel_values(encoder, image, m, CENTER_CROP) for m in (mask, None))

    assert torch.equal(found[..., :100], whole[..., :100])
    assert (found[..., 100:] == 0).all()


def test_each_picture_of_a_batch_may_have_its_own_mask(encoder):
    images, masks = pictures(2), torch.stack([torch.ones(224, 224), torch.zeros(224, 224)])
    found = pixel_values(encoder, images, masks, CENTER_CROP)
    assert torch.equal(found[:1], pixel_values(encoder, images[:1], None, CENTER_CROP))
    assert (found[1] == 0).all()


def test_each_picture_of_a_batch_is_encoded_as_if_it_were_alone(encoder):
    images = pictures(6, 64, 96, seed=5)  # more than one batch of the encoder
    together = hidden_states(encoder, images)
    fresh = small_encoders.clip_vision()

    for number in range(6):
        assert_same(hidden_states(fresh, images[number : number + 1])[0], together[number])
    assert not torch.allclose(together[0], together[1], atol=0.1)


# What is kept


def test_the_encoder_is_not_run_again_for_the_same_picture(tiny):
    counter, image = Runs(tiny), pictures(1, 28, 28)

    first, second = hidden_states(tiny, image), hidden_states(tiny, image.clone())

    assert counter.sizes == [1]
    assert torch.equal(first, second)


def test_one_new_picture_among_old_ones_is_run_alone(tiny):
    counter, images = Runs(tiny), pictures(3, 28, 28)
    before = hidden_states(tiny, images[:2])

    after = hidden_states(tiny, images[[2, 0, 1]])

    assert counter.sizes == [2, 1]
    assert torch.equal(after[1:], before)


def test_a_picture_that_stands_twice_in_a_batch_is_run_once(tiny):
    counter = Runs(tiny)
    features = hidden_states(tiny, pictures(1, 28, 28).expand(2, -1, -1, -1))
    assert counter.sizes == [1]
    assert torch.equal(features[0], features[1])


def test_another_fit_or_mask_of_the_same_picture_is_another_picture(tiny):
    counter, image = Runs(tiny), pictures(1, 28, 40)
    for fit in FITS:
        hidden_states(tiny, image, None, fit)
    hidden_states(tiny, image, torch.zeros(1, 28, 40))
    assert counter.sizes == [1, 1, 1, 1]


def test_the_zero_image_is_run_once_ever(tiny):
    counter = Runs(tiny)
    zero_hidden_states(tiny)
    hidden_states(tiny, pictures(CACHED_IMAGES + 8, 28, 28))
    zero_hidden_states(tiny)
    assert sum(counter.sizes) == 1 + CACHED_IMAGES + 8


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first(tiny):
    images = pictures(CACHED_IMAGES + 1, 28, 28)
    hidden_states(tiny, images[:-1])
    hidden_states(tiny, images[:1])  # used again, so that the second is the oldest
    hidden_states(tiny, images[-1:])
    counter = Runs(tiny)

    hidden_states(tiny, images[2:])
    hidden_states(tiny, images[:1])
    assert counter.sizes == []
    hidden_states(tiny, images[1:2])
    assert counter.sizes == [1]


def test_changing_what_was_handed_out_changes_nothing_that_is_kept(tiny):
    image = pictures(1, 28, 28)
    features = hidden_states(tiny, image)
    expected = features.clone()
    features.zero_()
    assert torch.equal(hidden_states(tiny, image), expected)


def test_what_is_kept_goes_when_the_encoder_goes():
    encoder = small_encoders.clip_vision(**TINY)
    hidden_states(encoder, pictures(1, 28, 28))
    kept, model = weakref.ref(FeatureCache.of(encoder)), weakref.ref(encoder)

    del encoder
    gc.collect()

    assert model() is None
    assert kept() is None


def test_two_encoders_do_not_share_what_they_keep():
    image = pictures(1, 28, 28)
    one, other = (small_encoders.clip_vision(**TINY) for _ in range(2))
    with torch.no_grad():
        other.model.vision_model.embeddings.class_embedding.neg_()
    assert not torch.allclose(hidden_states(one, image), hidden_states(other, image), atol=1e-2)


# Encoder files


@pytest.fixture
def vit_file(tmp_path, monkeypatch):
    """A file that ComfyUI's loader takes for a ViT-H by its 32 layers; its ViT-H configuration is made as small."""
    sizes = {"width": 80, "layers": 32, "patches": 2}
    config = small_encoders.vit_config(**sizes)
    monkeypatch.setattr(comfy.clip_vision, "ClipVisionModel", lambda _: small_encoders.clip_vision_of(config))
    save_file(
        {name: w.clone() for name, w in small_encoders.vit_weights(**sizes).items()}, tmp_path / "vit.safetensors"
    )
    return tmp_path / "vit.safetensors"


def test_two_choices_of_the_same_file_share_one_model(vit_file):
    one, other = (EncoderFile(name, vit_file) for name in ("vit.safetensors", "again.safetensors"))
    assert one.load() is other.load()
    assert one.load() is one.load()


def test_a_file_that_has_changed_is_read_again(vit_file):
    before = EncoderFile("vit.safetensors", vit_file).load()
    os.utime(vit_file, (1, 1))
    assert EncoderFile("vit.safetensors", vit_file).load() is not before


def test_a_model_goes_when_no_choice_of_it_is_left(vit_file):
    choice = EncoderFile("vit.safetensors", vit_file)
    model = weakref.ref(choice.load())
    del choice
    gc.collect()
    assert model() is None
