"""The drawn world's adapter: its first weights, and the examples that it is trained on."""

import random
from dataclasses import replace

import pytest
import torch
from drawn_world.adapter.references import wide
from drawn_world.adapter.train_attention import SHARE_SILENT, AttentionDataset, doubted
from drawn_world.adapter.train_resampler import (
    LENGTH,
    SIZES,
    SLOTS,
    every_word,
    new_resampler,
    silent,
    tokens_of,
    trained_tokens,
    wanted_tokens,
)
from drawn_world.models.autoencoder import components
from drawn_world.models.base import Latents
from drawn_world.models.image_encoder import CHANNELS
from drawn_world.models.text_encoder import CODE
from drawn_world.scenes.scene import TASKS, Scene, random_scene

PAIR = Scene(("cat", "moon"), "flat", "red", ("top left", "bottom right"), "dots")
ASKED = {
    "style": {"style"},
    "object": {"concept"},
    "colour": {"tint"},
    "composition": {"place"},
    "background": {"ground"},
    "everything": {"style", "concept", "tint", "place", "ground"},
}


@pytest.mark.parametrize("task", TASKS)
def test_tokens_say_what_is_asked_for_and_nothing_else(task):
    tokens = wanted_tokens(PAIR, task)
    for slot, (name, _) in enumerate(SLOTS):
        assert torch.equal(tokens[slot], silent()) == (name not in ASKED[task])
    assert torch.equal(tokens[len(SLOTS)], silent())
    torch.testing.assert_close(tokens.norm(dim=-1), torch.full((len(tokens),), LENGTH))


def test_a_token_is_not_trained_where_the_world_has_no_word():
    slots = [name for name, _ in SLOTS]
    for scene, without in ((replace(PAIR, style="noto-v1"), "style"), (replace(PAIR, concepts=("?", "?")), "concept")):
        assert trained_tokens(scene, "everything").tolist() == [*(name != without for name in slots), True]
        assert torch.equal(wanted_tokens(scene, "everything")[slots.index(without)], silent())
        assert trained_tokens(scene, "colour").all()


def test_every_wanted_token_is_a_word():
    drawn = random.Random(0)
    for _ in range(50):
        tokens = wanted_tokens(random_scene(drawn), "everything")
        assert ((tokens[:, None] - every_word()).norm(dim=-1).amin(1) < 1e-3).all()


def test_the_short_way_through_a_resampler_is_the_packs_own():
    torch.manual_seed(0)
    resampler = new_resampler()
    images, instructions, prompts = (torch.randn(2, *size) for size in ((257, CHANNELS), *((77, CODE + 1),) * 2))
    with torch.no_grad():
        short = tokens_of(resampler, images, instructions, prompts)
        whole = resampler(
            wide(images, SIZES.image_width), *(wide(x, SIZES.text_width) for x in (instructions, prompts))
        )
    torch.testing.assert_close(whole[..., : CODE + 1], short, rtol=1e-4, atol=1e-4)
    assert not whole[..., CODE + 1 :].any()


EXAMPLES = 300


@pytest.fixture(scope="module")
def dataset() -> AttentionDataset:
    return AttentionDataset(Latents(components()))


@pytest.mark.parametrize("task", TASKS)
def test_a_target_has_a_place_for_each_drawing_and_the_teacher_is_told_it(dataset, task):
    drawn = random.Random(task)
    for _ in range(EXAMPLES):
        target, _, _, whole = dataset.example(task, drawn)
        assert len(target.concepts) == len(target.places)
        assert sum(name == "concept" for (name, _), _ in whole) in (0, len(target.concepts))


def test_tokens_that_say_nothing_change_nothing_for_the_teacher(dataset):
    drawn, quiet = random.Random(0), 0
    for _ in range(EXAMPLES):
        _, tokens, told, whole = dataset.example("everything", drawn)
        if torch.equal(tokens, silent().expand_as(tokens)):
            quiet += 1
            assert told == whole
    assert quiet / EXAMPLES == pytest.approx(SHARE_SILENT, abs=0.06)


def test_a_prompt_seldom_tells_what_is_asked_for_and_may_tell_nothing(dataset):
    drawn = random.Random(2)
    made = [dataset.example("style", drawn)[2:] for _ in range(EXAMPLES)]
    told, wholes = zip(*([{name for (name, _), _ in senses} for senses in both] for both in made), strict=True)
    assert 0.1 < sum("style" in some for some in told) / EXAMPLES < 0.35
    alone = [whole for some, whole in zip(told, wholes, strict=True) if not some]
    assert {"style"} in alone and all(whole <= {"style"} for whole in alone)


@pytest.mark.parametrize("task", TASKS)
def test_a_doubted_token_is_still_nearest_to_its_word_and_silence_is_not_doubted(task):
    drawn = random.Random(task)
    for _ in range(EXAMPLES):
        wanted = wanted_tokens(random_scene(drawn), task)
        made = doubted(wanted, drawn)
        assert torch.equal((made @ every_word().T).argmax(-1), (wanted @ every_word().T).argmax(-1))
        quiet = (wanted == silent()).all(-1)
        assert torch.equal(made[quiet], wanted[quiet])
