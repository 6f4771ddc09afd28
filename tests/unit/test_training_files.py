"""The store of states, the plot of losses, and adapters that were taught."""

from __future__ import annotations

import os

import pytest
import torch
from files import adapter_tensors
from ipadapter_instruct.models.checkpoint import read_checkpoint
from ipadapter_instruct.models.tensor_files import read_metadata
from ipadapter_instruct.models.training.plot import loss_plot, running_mean
from ipadapter_instruct.models.training.store import StateStore
from ipadapter_instruct.models.training.writing import write_adapter
from safetensors.torch import load_file


def test_states_are_made_once(tmp_path):
    store, made = StateStore(tmp_path / "work" / "states"), []

    def make() -> dict:
        made.append(1)
        return {"states": torch.ones(2)}

    path = store.path("text", "encoder", "a cat")
    assert store.fill(path, make)
    assert not store.fill(path, make)
    assert made == [1]
    assert torch.equal(load_file(path)["states"], torch.ones(2))


def test_what_states_are_made_of_decides_their_place(tmp_path):
    store = StateStore(tmp_path)
    paths = {store.path(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), (b"abc", "x"))}
    assert len(paths) == 4
    assert store.path("ab", "c") == store.path("ab", "c")


def test_a_damaged_file_is_made_anew(tmp_path):
    store = StateStore(tmp_path)
    path = store.path("text")
    store.fill(path, lambda: {"states": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:-3])
    assert store.fill(path, lambda: {"states": torch.zeros(2)})
    assert torch.equal(load_file(path)["states"], torch.zeros(2))


def test_a_folder_that_cannot_be_written_into_is_said(tmp_path):
    (tmp_path / "states").write_text("a file")
    store = StateStore(tmp_path / "states")
    path = store.path("text")
    said = rf"Encoders' states were to be saved in {path.parent}; the system refused: Not a dir.*choose another folder"
    with pytest.raises(ValueError, match=said):
        store.fill(path, lambda: {"states": torch.ones(2)})


def test_no_part_of_a_file_is_left_when_making_fails(tmp_path):
    store = StateStore(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.fill(store.path("text"), lambda: 1 / 0)
    assert [files for _, _, files in os.walk(tmp_path) if files] == []


def test_a_running_mean_follows_its_values():
    assert running_mean([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert running_mean([0.0, 1.0], kept=0.5) == pytest.approx([0.0, 2 / 3])
    assert running_mean([]) == []


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0, 0.5], [1.0, 1.0]])
def test_losses_are_drawn(losses):
    picture = loss_plot(losses)
    assert picture.shape == (1, 360, 640, 3)
    assert 0 <= picture.min() < picture.max() == 1


def test_falling_losses_are_drawn_falling():
    picture = loss_plot([float(n) for n in range(100, 0, -1)])[0]
    blue = (picture[..., 2] - picture[..., 0] > 0.4).nonzero().float()
    left, right = blue[blue[:, 1] < 200], blue[blue[:, 1] > 440]
    assert left[:, 0].mean() < right[:, 0].mean()


def test_a_taught_adapter_is_written_in_half_precision_with_a_note_and_can_be_read(tmp_path):
    tensors = adapter_tensors("sd15")
    write_adapter(tensors, tmp_path / "made" / "taught.safetensors", "on a test")
    path = tmp_path / "made" / "taught.safetensors"
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name].half()) for name in tensors)
    assert read_checkpoint(path).family.name == "sd15"
    assert read_metadata(path) == {"format": "pt", "taught": "on a test"}
    assert [file.name for file in path.parent.iterdir()] == ["taught.safetensors"]


def test_an_adapter_that_cannot_be_written_is_said_with_its_size(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"The adapter's weights were to be saved in .*2\.0 MB are needed.*choose another place"
    ):
        write_adapter({"a": torch.zeros(1_000_000)}, tmp_path / "file" / "taught.safetensors", "")
