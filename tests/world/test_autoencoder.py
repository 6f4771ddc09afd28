"""The small world's autoencoder: an encoder that is made, and ComfyUI's own loading of it."""

import random

import numpy as np
import pytest
import torch
from small_world.autoencoder import PREFIX, new_taesd
from small_world.check_reader import right
from small_world.components import ACROSS, CHANNELS, Components, patches_of
from small_world.drawing import draw
from small_world.in_process import comfy
from small_world.reader import read
from small_world.scenes import ATTRIBUTES, random_scene


def pictures(count: int, seed: int = 0, pairs: float = 0.2):
    drawn = random.Random(seed)
    return [draw(random_scene(drawn, pairs), drawn) for _ in range(count)]


def as_tensor(found) -> torch.Tensor:
    return torch.from_numpy(np.stack(found))


def linear_decoding(found: Components, latents: torch.Tensor) -> np.ndarray:
    """Pictures [B, 64, 64, 3] from latents, as well as a linear decoder can."""
    patches = latents.movedim(1, -1) @ torch.linalg.pinv(found.axes).T + found.mean
    grid = patches.reshape(-1, ACROSS, ACROSS, 8, 8, 3).swapaxes(2, 3)
    return grid.reshape(-1, 64, 64, 3).clamp(0, 1).numpy()


def test_taesds_encoder_computes_the_components_exactly(few_components):
    found = pictures(6)
    with torch.no_grad():
        encoded = new_taesd(few_components).taesd_encoder(as_tensor(found).movedim(-1, 1))
    torch.testing.assert_close(encoded, few_components.encode(found), rtol=0, atol=5e-5)


def test_a_crop_at_whole_patches_has_a_crop_of_the_latents(few_components):
    (picture,) = pictures(1)
    whole, part = few_components.encode([picture]), few_components.encode([picture[16:48, 24:56]])
    torch.testing.assert_close(part, whole[:, :, 2:6, 3:7])


def test_patches_keep_every_value_in_its_place():
    picture = np.arange(64 * 64 * 3, dtype=np.float32).reshape(64, 64, 3)
    patch = patches_of(picture)[2, 5].reshape(8, 8, 3)
    np.testing.assert_array_equal(patch, picture[16:24, 40:48])


def test_latents_have_about_mean_0_and_variance_1(few_components):
    latents = few_components.encode(pictures(300, seed=1, pairs=0.12))
    assert latents.shape == (300, CHANNELS, 8, 8)
    assert latents.mean((0, 2, 3)).abs().max() < 0.2
    assert latents.var().item() == pytest.approx(1, abs=0.15)
    assert 0.5 < latents.std((0, 2, 3)).min() < latents.std((0, 2, 3)).max() < 1.5
    assert latents.abs().quantile(0.999) < 5


def test_every_attribute_is_still_in_the_latents(few_components):
    """Read from a linear decoding; the trained decoder is better."""
    drawn = random.Random("latents")
    scenes = [random_scene(drawn) for _ in range(100)]
    decoded = linear_decoding(few_components, few_components.encode([draw(scene, drawn) for scene in scenes]))
    shares = right(scenes, [read(picture) for picture in decoded])
    assert min(shares[name] for name in ATTRIBUTES if name != "shape") > 0.97, shares
    assert shares["shape"] > 0.9


def test_comfyui_loads_it_as_its_vae_and_sd3_sees_the_components(few_components):
    weights = new_taesd(few_components).state_dict()
    vae = comfy.sd.VAE(sd={name.removeprefix(PREFIX): weight for name, weight in weights.items()})
    found = pictures(2)
    with torch.inference_mode():
        latents = comfy.latent_formats.SD3().process_in(vae.encode(as_tensor(found)))
        decoded = vae.decode(torch.zeros(1, CHANNELS, 8, 8))
    # TAESD is given the pictures as -1..1 and puts them back to 0..1
    torch.testing.assert_close(latents, few_components.encode(found), rtol=0, atol=2e-2)
    assert decoded.shape == (1, 64, 64, 3)
