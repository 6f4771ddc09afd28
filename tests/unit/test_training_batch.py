"""Batches: what is dropped, and texts of different lengths side by side."""

from __future__ import annotations

import pytest
import torch
from ipadapter_instruct.models.training.batch import Seen, as_long, stacked, with_dropped
from ipadapter_instruct.models.training.recipe import Recipe


def seen(rows: int, value: float, length: int = 77, pooled: bool = True) -> Seen:
    def filled(*shape: int) -> torch.Tensor:
        return torch.full((rows, *shape), value)

    return Seen(filled(5, 4), filled(77, 3), filled(77, 3), filled(length, 6), filled(2) if pooled else None)


def shares_dropped(**shares: float) -> tuple[float, float, float]:
    """Of 4,000 rows: without text alone, without picture alone, without both."""
    recipe = Recipe(steps=1, **{"drop_text": 0, "drop_image": 0, "drop_both": 0, **shares})
    found = with_dropped(seen(4000, 1.0), seen(1, 0.0), recipe, torch.Generator().manual_seed(1))
    picture = found.image_states[:, 0, 0] == 0
    texts = [part.flatten(1)[:, 0] == 0 for part in (found.instruct_states, found.prompt_states, found.context)]
    assert all(torch.equal(part, texts[0]) for part in (*texts, found.pooled[:, 0] == 0))
    text = texts[0]
    rows = (text & ~picture, picture & ~text, text & picture)
    return tuple(row.float().mean().item() for row in rows)


def test_each_share_is_dropped_as_asked_for():
    assert shares_dropped(drop_text=0.2) == pytest.approx((0.2, 0, 0), abs=0.02)
    assert shares_dropped(drop_image=0.3) == pytest.approx((0, 0.3, 0), abs=0.02)
    assert shares_dropped(drop_both=0.1) == pytest.approx((0, 0, 0.1), abs=0.02)
    assert shares_dropped(drop_text=0.1, drop_image=0.2, drop_both=0.3) == pytest.approx((0.1, 0.2, 0.3), abs=0.025)


def test_what_hardly_differs_still_does_on_the_device():
    states = 100 + torch.arange(4.0).reshape(1, 1, 4) / 100
    moved = Seen(states, states, states, states).to(torch.device("cpu"))
    assert torch.equal(moved.image_states, states)
    halves = Seen(states.half(), states, states, states).to(torch.device("cpu"))
    assert halves.image_states.dtype == torch.float32


def test_nothing_is_dropped_when_nothing_should_be():
    assert shares_dropped() == (0, 0, 0)


def test_what_is_dropped_is_replaced_by_what_nothing_is_encoded_as():
    recipe = Recipe(steps=1, drop_both=1.0, drop_text=0, drop_image=0)
    found = with_dropped(seen(3, 1.0, pooled=False), seen(1, 7.0, pooled=False), recipe, torch.Generator())
    assert found.pooled is None
    assert all(torch.equal(part, torch.full_like(part, 7.0)) for part in found.parts()[:-1])


def test_texts_of_other_lengths_are_repeated_to_the_same():
    short, long = as_long(torch.rand(1, 77, 6), torch.rand(1, 154, 6))
    assert short.shape == long.shape == (1, 154, 6)
    assert torch.equal(short[:, :77], short[:, 77:])


def test_rows_are_stacked_in_order():
    found = stacked([seen(1, 1.0), seen(2, 2.0, length=154)])
    assert found.context.shape == (3, 154, 6)
    assert found.image_states[:, 0, 0].tolist() == [1, 2, 2]
    assert found.pooled[:, 0].tolist() == [1, 2, 2]
    assert stacked([seen(1, 1.0, pooled=False)]).pooled is None


def test_what_is_dropped_is_decided_by_the_generator():
    recipe = Recipe(steps=1, drop_both=0.5)

    def dropped(seed: int) -> list[bool]:
        found = with_dropped(seen(50, 1.0), seen(1, 0.0), recipe, torch.Generator().manual_seed(seed))
        return (found.image_states[:, 0, 0] == 0).tolist()

    assert dropped(1) == dropped(1) != dropped(2)
