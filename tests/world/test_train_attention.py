"""What the drawn world's adapters are trained to write on."""

from __future__ import annotations

import random

import pytest
import torch
from drawn_world.adapter.train_attention import SHARE_SILENT, AttentionDataset, doubted
from drawn_world.adapter.train_resampler import every_word, silent, wanted_tokens
from drawn_world.models.autoencoder import components
from drawn_world.models.base import Latents
from drawn_world.scenes.scene import TASKS, random_scene

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
