"""Features of pictures are kept with their encoder, and encoders with the choices of their files."""

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
    zero_hidden_states,
)
from ipadapter_instruct.models.encoding.pixels import FITS
from safetensors.torch import save_file
from support import small_encoders
from support.readable_adapters import Runs
from support.tensors.encoded_pictures import hidden_states, pictures

pytestmark = pytest.mark.xdist_group("vit")  # one process loads the encoders for all

TINY = {"width": 80, "layers": 2, "patches": 2}


@pytest.fixture
def tiny():
    """A fresh encoder for 28 pixels."""
    return small_encoders.clip_vision(**TINY)


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
