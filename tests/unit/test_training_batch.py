"""Batches: what is dropped, and texts of different lengths side by side."""

from __future__ import annotations

import pytest
import torch
from ipadapter_instruct.models.training.batch import Conditioning, drop_conditioning, same_length, stack_conditioning
from ipadapter_instruct.models.training.training_arguments import TrainingArguments


def given(rows: int, value: float, length: int = 77, pooled: bool = True) -> Conditioning:
    def filled(*shape: int) -> torch.Tensor:
        return torch.full((rows, *shape), value)

    return Conditioning(filled(5, 4), filled(77, 3), filled(77, 3), filled(length, 6), filled(2) if pooled else None)


def shares_dropped(**shares: float) -> tuple[float, float, float]:
    """Counts in 4,000 rows: without text alone, without picture alone, without both."""
    arguments = TrainingArguments(
        max_train_steps=1, **{"t_drop_rate": 0, "i_drop_rate": 0, "ti_drop_rate": 0, **shares}
    )
    found = drop_conditioning(given(4000, 1.0), given(1, 0.0), arguments, torch.Generator().manual_seed(1))
    picture = found.image_features[:, 0, 0] == 0
    texts = [part.flatten(1)[:, 0] == 0 for part in (found.instruct_embeds, found.prompt_embeds, found.context)]
    assert all(torch.equal(part, texts[0]) for part in (*texts, found.pooled_output[:, 0] == 0))
    text = texts[0]
    rows = (text & ~picture, picture & ~text, text & picture)
    return tuple(row.float().mean().item() for row in rows)


def test_each_share_is_dropped_as_asked_for():
    assert shares_dropped(t_drop_rate=0.2) == pytest.approx((0.2, 0, 0), abs=0.02)
    assert shares_dropped(i_drop_rate=0.3) == pytest.approx((0, 0.3, 0), abs=0.02)
    assert shares_dropped(ti_drop_rate=0.1) == pytest.approx((0, 0, 0.1), abs=0.02)
    assert shares_dropped(t_drop_rate=0.1, i_drop_rate=0.2, ti_drop_rate=0.3) == pytest.approx(
        (0.1, 0.2, 0.3), abs=0.025
    )


def test_what_hardly_differs_still_does_on_the_device():
    states = 100 + torch.arange(4.0).reshape(1, 1, 4) / 100
    moved = Conditioning(states, states, states, states).to(torch.device("cpu"))
    assert torch.equal(moved.image_features, states)
    halves = Conditioning(states.half(), states, states, states).to(torch.device("cpu"))
    assert halves.image_features.dtype == torch.float32


def test_nothing_is_dropped_when_nothing_should_be():
    assert shares_dropped() == (0, 0, 0)


def test_what_is_dropped_is_replaced_by_what_nothing_is_encoded_as():
    arguments = TrainingArguments(max_train_steps=1, ti_drop_rate=1.0, t_drop_rate=0, i_drop_rate=0)
    found = drop_conditioning(given(3, 1.0, pooled=False), given(1, 7.0, pooled=False), arguments, torch.Generator())
    assert found.pooled_output is None
    assert all(torch.equal(part, torch.full_like(part, 7.0)) for part in vars(found).values() if part is not None)


def test_texts_of_other_lengths_are_repeated_to_the_same():
    short, long = same_length(torch.rand(1, 77, 6), torch.rand(1, 154, 6))
    assert short.shape == long.shape == (1, 154, 6)
    assert torch.equal(short[:, :77], short[:, 77:])


def test_rows_are_stacked_in_order():
    found = stack_conditioning([given(1, 1.0), given(2, 2.0, length=154)])
    assert found.context.shape == (3, 154, 6)
    assert found.image_features[:, 0, 0].tolist() == [1, 2, 2]
    assert found.pooled_output[:, 0].tolist() == [1, 2, 2]
    assert stack_conditioning([given(1, 1.0, pooled=False)]).pooled_output is None


def test_what_is_dropped_is_decided_by_the_generator():
    arguments = TrainingArguments(max_train_steps=1, ti_drop_rate=0.5)

    def dropped(seed: int) -> list[bool]:
        found = drop_conditioning(given(50, 1.0), given(1, 0.0), arguments, torch.Generator().manual_seed(seed))
        return (found.image_features[:, 0, 0] == 0).tolist()

    assert dropped(1) == dropped(1) != dropped(2)
