"""Training arguments: the learning rate over the steps, the averages, and numbers that nothing can be trained with."""

from __future__ import annotations

import pytest
from ipadapter_instruct.models.training.training_arguments import TrainingArguments


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine_to_a_hundredth():
    arguments = TrainingArguments(max_train_steps=1100, learning_rate=0.2, lr_warmup_steps=100)
    assert arguments.learning_rate_at(0) == pytest.approx(0.002)
    assert arguments.learning_rate_at(49) == pytest.approx(0.1)
    assert arguments.learning_rate_at(99) == pytest.approx(0.2)
    assert arguments.learning_rate_at(100) == pytest.approx(0.2)
    assert arguments.learning_rate_at(600) == pytest.approx(0.2 * 0.505)
    assert arguments.learning_rate_at(1100) == pytest.approx(0.002)


def test_without_a_warmup_the_first_step_has_the_whole_rate():
    assert TrainingArguments(max_train_steps=10, learning_rate=0.5, lr_warmup_steps=0).learning_rate_at(
        0
    ) == pytest.approx(0.5)


def test_a_run_that_is_all_warmup_has_a_rate_at_every_step():
    arguments = TrainingArguments(max_train_steps=100, learning_rate=1.0, lr_warmup_steps=100)
    assert [arguments.learning_rate_at(step) for step in (0, 99, 100)] == pytest.approx([0.01, 1.0, 1.0])


def test_averages_keep_little_at_first_and_what_was_asked_for_later():
    arguments = TrainingArguments(max_train_steps=10, ema_decay=0.9)
    assert [arguments.ema_decay_at(step) for step in (0, 8, 1000)] == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"max_train_steps": 0}, "max_train_steps was expected to be a number from 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"lr_warmup_steps": -1}, "lr_warmup_steps"),
        ({"lr_warmup_steps": 10**10}, "lr_warmup_steps was expected to be a number from 0 to 1e"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": 2.5}, "learning_rate was expected to be a number from 1e-12 to 1"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"max_grad_norm": 1e10}, "max_grad_norm was expected to be a number from 1e-12 to 1e"),
        ({"weight_decay": 2.0}, "weight_decay"),
        ({"ema_decay": 1.5}, "ema_decay"),
        ({"t_drop_rate": -0.1}, "t_drop_rate"),
        ({"i_drop_rate": 1.1}, "i_drop_rate"),
        (
            {"ti_drop_rate": 0.5, "t_drop_rate": 0.6},
            "the_drop_rates_together was expected to be a number from 0 to 1; it is 1.15",
        ),
        ({"mixed_precision": "fp16"}, "mixed_precision was expected to be one of no, bf16"),
    ],
)
def test_numbers_that_nothing_can_be_trained_with_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        TrainingArguments(**{"max_train_steps": 10, **wrong})
