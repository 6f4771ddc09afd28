"""The commands that measure the small world, on pictures whose scenes are known."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from small_world.autoencoder import PREFIX as VAE_PREFIX
from small_world.autoencoder import new_taesd
from small_world.base import PREFIX, new_base, widened
from small_world.check_base import Trial, all_followed, followed, trials, wrapped, write_sheet
from small_world.check_encoders import probe
from small_world.drawing import draw
from small_world.files import in_half
from small_world.in_process import comfy
from small_world.reader import read
from small_world.sampling import World, conditioning, sample
from small_world.scenes import ATTRIBUTES, is_held_out, random_scene
from small_world.storage import save_tensors


def seen_of(tried: list[Trial]):
    return [read(draw(trial.scene, random.Random(0))) for trial in tried]


def test_trials_are_held_out_and_the_same_every_time():
    tried = trials(60)
    assert tried == trials(60)
    assert all(is_held_out(trial.scene) for trial in tried)
    assert {name for trial in tried for name in trial.told} == set(ATTRIBUTES)


def test_pictures_of_the_very_scenes_follow_their_captions():
    tried = trials(60)
    assert followed(tried, seen_of(tried)) == dict.fromkeys(ATTRIBUTES, 1.0)
    assert all_followed(tried, seen_of(tried)) == 1


def test_pictures_of_other_scenes_follow_by_chance_alone():
    tried = trials(400)
    shares = followed(tried, seen_of(trials(400, seed="others")))
    for name, values in ATTRIBUTES.items():
        assert shares[name] == pytest.approx(1 / len(values), abs=0.12)
    assert all_followed(tried, seen_of(trials(400, seed="others"))) < 0.1


def test_a_probe_finds_what_is_in_states_and_nothing_in_noise():
    drawn = random.Random(0)
    scenes = [random_scene(drawn) for _ in range(700)]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(700, 64, generator=generator)
    colours = torch.tensor([ATTRIBUTES["colour"].index(scene.attributes["colour"]) for scene in scenes])
    states = torch.cat([torch.nn.functional.one_hot(colours, 7).float(), 0.1 * noise], 1)
    shares = probe(states, scenes)
    assert shares["colour"] > 0.98
    assert shares["shape"] < 0.35


def test_a_sheet_holds_every_picture_with_its_words(tmp_path):
    pictures = [np.full((64, 64, 3), shade, np.float32) for shade in np.linspace(0, 1, 11)]
    write_sheet(pictures, ["a big red star at the top left"] * 11, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 2 * 128
    assert wrapped("one two three", 8) == ["one two", "three"]


def test_comfyuis_sampler_makes_a_picture_for_each_text(tmp_path, text_file, few_components):
    parts = {
        PREFIX: widened(new_base().diffusion_model.state_dict()),
        VAE_PREFIX: new_taesd(few_components).state_dict(),
    }
    path = tmp_path / "world.safetensors"
    save_tensors(in_half(parts), path, "for tests")
    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path), output_clip=False)
    world = World(model, comfy.sd.load_clip([str(text_file)], clip_type=comfy.sd.CLIPType.SD3), vae)
    found = sample(world, conditioning(world, ["a red star", "dots"]), conditioning(world, [""]), seed=1)
    assert [picture.shape for picture in found] == [(64, 64, 3)] * 2
    assert not np.array_equal(*found)
