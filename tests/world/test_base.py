"""The drawn world's base model and autoencoder: training, and that ComfyUI computes the same."""

import random

import numpy as np
import pytest
import torch
from drawn_world.in_process import comfy
from drawn_world.models import base as sd3
from drawn_world.models.autoencoder import CHANNELS, VALUES, Components, evenly_turned, find_components, new_taesd
from drawn_world.models.text_encoder import BLANKS, CODE, LENGTH, MARK, code_of
from drawn_world.scenes.scene import Scene, random_scene
from drawn_world.scenes.words import CAPTIONED, senses_of

SCENES = (
    Scene(("cat", "moon"), "flat", "red", ("top left", "bottom right"), "dots"),
    Scene(("bee",), "glossy", "natural", ("left",), "white"),
)


@pytest.fixture(scope="module")
def base():
    """A base model whose blocks and last layer do something."""
    made = sd3.new_base()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in made.diffusion_model.named_parameters():
            if "adaLN_modulation" in name or name.startswith("final_layer"):
                weight.normal_(0, 0.1, generator=generator)
    return made.eval()


def test_a_caption_has_as_many_states_as_senses_and_then_zeros():
    states = sd3.states_of([senses_of(scene, CAPTIONED) for scene in SCENES])
    assert states.shape == (2, sd3.STATES, sd3.FILLED)
    filled = states[:, : sd3.SENSES + 1].norm(dim=-1) > 1
    assert filled.sum(1).tolist() == [sd3.SENSES, 5]  # a pair tells most; the natural colour is not told


def test_the_second_drawing_has_a_mark_of_its_own():
    first, second = sd3.states_of([senses_of(SCENES[0], ("concepts",))])[0, :2, :CODE]
    assert torch.equal(first, code_of(("concept", "cat")))
    assert not torch.equal(second, code_of(("concept", "moon")))
    assert torch.equal(second, code_of(("concept", "moon"), second=True))


def test_examples_are_the_same_for_the_same_seed():
    latents = sd3.Latents(find_components(scenes=30))
    first, second = (sd3.examples(latents, 4, random.Random(3)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_an_untrained_base_predicts_nothing():
    latents, noise = torch.randn(2, 2, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    loss = sd3.velocity_loss(
        sd3.new_base(), latents, torch.zeros(2, sd3.STATES, sd3.FILLED), noise, torch.tensor([0.3, 0.8])
    )
    torch.testing.assert_close(loss, (noise - latents).square().mean())


def test_comfyui_predicts_from_a_whole_text_what_the_short_one_gives_in_training(base):
    """All 77 states at SD3's widths, in the wide model that ComfyUI recognises, against a few narrow ones."""
    wide = {sd3.PREFIX + name: weight for name, weight in sd3.widened(base.diffusion_model.state_dict()).items()}
    found = comfy.model_detection.model_config_from_unet(wide, sd3.PREFIX)
    assert isinstance(found, comfy.supported_models.SD3)
    found.set_inference_dtype(torch.float32, None)
    host = found.get_model(wide, sd3.PREFIX, device="cpu")
    host.load_model_weights(dict(wide), sd3.PREFIX)
    states = sd3.states_of([senses_of(random_scene(random.Random(1)), CAPTIONED)])
    whole = torch.zeros(1, LENGTH, sd3.CONTEXT)
    whole[:, 5 : 5 + sd3.SENSES, : sd3.FILLED] = states[:, : sd3.SENSES]  # places and other zeros don't matter
    whole[:, 20:, MARK] = 8.0  # the padding's
    whole[:, -BLANKS:, : sd3.FILLED] += states[:, -BLANKS:]
    latents, noise = torch.randn(2, 1, 16, 12, 12, generator=torch.Generator().manual_seed(2))
    noisy, pooled = 0.7 * noise + 0.3 * latents, torch.randn(1, sd3.POOLED)  # the second is not used
    with torch.no_grad():
        own = sd3.velocity_loss(base, latents, states, noise, torch.tensor([0.7]))
        velocity = host.diffusion_model(noisy, torch.tensor([700.0]), context=whole, y=pooled)
    torch.testing.assert_close((velocity - (noise - latents)).square().mean(), own, rtol=1e-4, atol=1e-4)
    assert sd3.COPIES == LENGTH - sd3.SENSES - BLANKS


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(0)
    return Components(torch.full((VALUES,), 0.5), torch.randn(CHANNELS, VALUES, generator=generator) / 10)


def test_taesds_encoder_computes_the_components(linear):
    pictures = np.random.default_rng(0).random((2, 32, 48, 3), np.float32)
    with torch.no_grad():
        latents = new_taesd(linear).taesd_encoder(torch.from_numpy(pictures).movedim(-1, 1))
    torch.testing.assert_close(latents, linear.encode(pictures), rtol=0, atol=1e-4)


def test_what_lies_in_the_components_comes_back(linear):
    latents = torch.randn(2, CHANNELS, 4, 6, generator=torch.Generator().manual_seed(1)) / 20
    again = linear.encode(linear.decode(latents))
    torch.testing.assert_close(again, latents, rtol=0, atol=1e-4)


def test_turned_axes_keep_their_lengths_together():
    axes = torch.randn(CHANNELS, 10, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(evenly_turned(axes).square().sum(), axes.square().sum())
