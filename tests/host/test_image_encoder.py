"""Pictures to features by ComfyUI's CLIP vision models, against transformers and open_clip.

The weights are random, rounded to fp16 and computed with in float32; states are of magnitude 8.
Absolute tolerance 1e-4; 4e-6 was measured.
"""

import comfy.clip_vision
import pytest
import torch
from ipadapter_instruct.models.encoding.image_encoder import encode_pixels, zero_hidden_states
from ipadapter_instruct.models.encoding.pixels import CENTER_CROP, FITS, PAD, STRETCH, pixel_values
from support import small_encoders
from support.tensors.encoded_pictures import hidden_states, pictures

pytestmark = pytest.mark.xdist_group("vit")  # one process loads the encoders for all

TOLERANCE = 1e-4
REAL = {"width": 1280, "layers": 32}


@pytest.fixture(scope="module")
def encoder():
    """ViT-H's structure at 224 pixels, 160 wide, four layers."""
    return small_encoders.clip_vision()


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


@pytest.mark.long("the others have small encoders")
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
