"""Recipes: the learning rate over the steps, the averages, and numbers that nothing can be learnt with."""

from __future__ import annotations

import pytest
from ipadapter_instruct.models.training.recipe import Recipe


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine_to_a_hundredth():
    recipe = Recipe(steps=1100, rate=0.2, warm_up=100)
    assert recipe.rate_at(0) == pytest.approx(0.002)
    assert recipe.rate_at(49) == pytest.approx(0.1)
    assert recipe.rate_at(99) == pytest.approx(0.2)
    assert recipe.rate_at(100) == pytest.approx(0.2)
    assert recipe.rate_at(600) == pytest.approx(0.2 * 0.505)
    assert recipe.rate_at(1100) == pytest.approx(0.002)


def test_without_a_warm_up_the_first_step_has_the_whole_rate():
    assert Recipe(steps=10, rate=0.5, warm_up=0).rate_at(0) == pytest.approx(0.5)


def test_a_run_that_is_all_warm_up_has_a_rate_at_every_step():
    recipe = Recipe(steps=100, rate=1.0, warm_up=100)
    assert [recipe.rate_at(step) for step in (0, 99, 100)] == pytest.approx([0.01, 1.0, 1.0])


def test_averages_keep_little_at_first_and_what_was_asked_for_later():
    recipe = Recipe(steps=10, average=0.9)
    assert [recipe.average_at(step) for step in (0, 8, 1000)] == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"steps": 0}, "steps was expected to be a number from 1"),
        ({"batch": 0}, "batch"),
        ({"accumulate": 0}, "accumulate"),
        ({"warm_up": -1}, "warm_up"),
        ({"warm_up": 10**10}, "warm_up was expected to be a number from 0 to 1e"),
        ({"rate": 0.0}, "rate"),
        ({"rate": 2.5}, "rate was expected to be a number from 1e-12 to 1"),
        ({"rate": float("nan")}, "rate"),
        ({"clip": 0.0}, "clip"),
        ({"clip": 1e10}, "clip was expected to be a number from 1e-12 to 1e"),
        ({"decay": 2.0}, "decay"),
        ({"average": 1.5}, "average"),
        ({"drop_text": -0.1}, "drop_text"),
        ({"drop_image": 1.1}, "drop_image"),
        (
            {"drop_both": 0.5, "drop_text": 0.6},
            "the_dropped_together was expected to be a number from 0 to 1; it is 1.15",
        ),
        ({"arithmetic": "fp16"}, "arithmetic was expected to be one of float32, bf16"),
    ],
)
def test_numbers_that_nothing_can_be_learnt_with_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**{"steps": 10, **wrong})
