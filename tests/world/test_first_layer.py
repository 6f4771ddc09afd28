"""The first layer of the world's adapters: uncorrelated numbers of about the same spread, of contents and of places."""

from __future__ import annotations

import random

import torch
from small_world.captions import random_caption
from small_world.drawing import draw
from small_world.first_layer import PATCHES, WAVES, first_layer, first_layers, outlines, patches_of, waves
from small_world.lessons import resampler_states
from small_world.phrasings import trained
from small_world.references import References, all_scenes
from small_world.scenes import ATTRIBUTES, TASKS, Scene, Thing, scene_to_learn
from small_world.storage import save_tensors

WIDTH = 16


def states() -> torch.Tensor:
    """60 pictures of 20 places 40 wide: a common part that is far larger than places, and those than contents."""
    generator = torch.Generator().manual_seed(1)
    contents = torch.randn(60, 20, 24, generator=generator) @ torch.randn(24, 40, generator=generator)
    return 50 * torch.randn(40, generator=generator) + 3 * torch.randn(20, 40, generator=generator) + 0.1 * contents


def test_what_comes_out_is_uncorrelated_within_places_and_of_mean_0():
    weight, bias = first_layer(states(), WIDTH)
    out = states() @ weight.T + bias
    assert out.shape[-1] == WIDTH
    assert out.mean((0, 1)).abs().max() < 1e-2
    within = (out - out.mean(0)).flatten(0, 1)
    torch.testing.assert_close(within.T @ within / len(within), torch.eye(WIDTH), rtol=0, atol=1e-2)
    assert out.mean(0).abs().max() < 1e-2  # nothing of places, which are larger


def test_what_is_to_be_told_is_told_of_other_pictures_too():
    all_states = states()
    told = all_states[..., :3] * 2 - all_states[..., 3:6] + 7
    weight, bias = first_layer(all_states[:40], WIDTH, told[:40])
    out = (all_states[40:] @ weight.T + bias)[..., -3:]
    for k in range(3):
        pair = torch.stack([out[..., k].flatten(), told[40:, :, k].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.95


def test_patches_are_told_their_things_and_their_place():
    scene = Scene((Thing("square", "blue", "top left", "big"),), "dots")
    told = patches_of([scene], [draw(scene, random.Random(4))])
    assert told.shape == (1, 1 + PATCHES**2, 1 + 7 + 2 + 9 + 6 + WAVES**2)
    covered = told[0, 1:, 0].reshape(PATCHES, PATCHES)
    assert covered[4, 4] == 1 and covered[12, 12] == 0
    blue = 1 + ATTRIBUTES["colour"].index("blue")
    assert torch.equal(told[0, 1:, blue].reshape(PATCHES, PATCHES), covered)
    assert told[0, 0, : -(WAVES**2)].abs().max() == 0  # the class token shows nothing


def test_outlines_tell_where_and_how_edges_run():
    things = torch.zeros(2, 64, 64)
    things[0, :, 34:] = 1.0  # an edge through the middle of the patches of column 8
    things[1] = torch.tril(torch.ones(64, 64))  # one from the top left to the bottom right
    told = outlines(things).unflatten(1, (PATCHES, PATCHES))
    upright, aslant = told[0, 4, 8], told[1, 4, 4]
    torch.testing.assert_close(upright[:4], torch.tensor([-0.5, 0.5, -0.5, 0.5]))
    assert upright[4] == 0.5 and aslant[4] > 0.5
    assert upright[5] > 0 and upright[6] == 0 and upright[7] == upright[8]
    assert aslant[5] == aslant[6] > 0 and aslant[7] == 0 and aslant[8] > aslant[5]
    assert told[0, 4, :7].abs().max() == 0 and told[0, 4, 10:15, 4].min() == 1  # far from the edge


def test_waves_are_uncorrelated_and_of_one_size():
    over = waves(PATCHES, WAVES)
    torch.testing.assert_close(over.T @ over / len(over), torch.eye(WAVES**2), rtol=0, atol=1e-5)


def test_texts_come_out_around_0_though_most_of_their_states_is_common_to_all(short_texts, tmp_path):
    path = tmp_path / "references.safetensors"
    states = torch.randn(3, 257, 1280, generator=torch.Generator().manual_seed(2)).half()
    save_tensors({"states": states}, path, "for tests")
    layers = first_layers(References(tuple(all_scenes()[:3]), path), short_texts, 64)
    assert layers["proj_in.weight"].shape == (64, 1280)
    drawn = random.Random(3)
    prompts = [random_caption(scene_to_learn(drawn), drawn) for _ in range(40)]
    instructions = [phrasing for task in TASKS for phrasing in trained(task)]
    for name, texts in {"proj_new_input": instructions, "proj_prompt_input": prompts}.items():
        given = resampler_states(short_texts.encode(texts).states)
        assert given.mean((0, 1)).square().mean() > 0.5 * given.square().mean()
        out = given @ layers[f"{name}.weight"].T + layers[f"{name}.bias"]
        assert out.mean((0, 1)).square().mean() < 0.2 * out.square().mean()
