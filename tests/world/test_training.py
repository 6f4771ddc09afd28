"""The loop in which the drawn world's models are trained."""

import pytest
import torch
from drawn_world import training as loop
from drawn_world.training import Training, TrainingArguments, save_state


def trained(folder, monkeypatch, stops: tuple[int, ...]) -> Training:
    """A small model after the last of these steps, stopped and taken up again at the others."""
    monkeypatch.setenv("DRAWN_WORLD", str(folder))

    def loss_of(step: int) -> torch.Tensor:
        rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (model(rows) - rows.sum(1, keepdim=True)).square().mean()

    for stop in stops:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        given = {"learning_rate": 0.1, "lr_warmup_steps": 5, "ema_decay": 0.9}
        training = Training("small", model, TrainingArguments(stops[-1], **given))
        while training.step < stop:
            training.optimize(loss_of(training.step))
        save_state("small", training.state())
    return training


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole", monkeypatch, (40,))
    parts = trained(tmp_path / "parts", monkeypatch, (3, 17, 40))
    assert parts.step == whole.step == 40
    assert torch.equal(parts.model.weight, whole.model.weight)
    assert torch.equal(parts.ema["weight"], whole.ema["weight"])


def test_a_loss_that_is_no_number_stops_the_training(tmp_path, monkeypatch):
    training = trained(tmp_path, monkeypatch, (2,))
    with pytest.raises(FloatingPointError, match="at step 2"):
        training.optimize(torch.tensor(float("nan")))


def test_a_training_is_not_taken_up_with_other_models_under_it(tmp_path, monkeypatch):
    stored = tmp_path / "stored"
    monkeypatch.setattr(loop, "BUILT_ON", {"small": ("encoder",)})
    monkeypatch.setattr(loop, "stored_path", lambda name: stored)
    stored.write_text("one")
    trained(tmp_path, monkeypatch, (2, 3))
    stored.write_text("another")
    with pytest.raises(ValueError, match=r"small\.pt was trained with another encoder than is stored now. Delete it"):
        trained(tmp_path, monkeypatch, (4,))
