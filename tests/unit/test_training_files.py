"""The cache of what is encoded, the plot of losses, and adapters that were trained."""

from __future__ import annotations

import os

import pytest
import torch
from ipadapter_instruct.models.adapter.checkpoint import read_checkpoint
from ipadapter_instruct.models.adapter.trained_files import write_adapter
from ipadapter_instruct.models.files.tensor_cache import TensorCache
from ipadapter_instruct.models.files.tensor_files import read_metadata
from ipadapter_instruct.models.training.loss_plot import INK, LINE, PALE, loss_plot, running_mean
from safetensors.torch import load_file
from support.small_files import adapter_tensors


def test_tensors_are_made_once(tmp_path):
    cache, made = TensorCache(tmp_path / "work" / "cache"), []

    def make() -> dict:
        made.append(1)
        return {"embeds": torch.ones(2)}

    path = cache.path("text", "encoder", "a cat")
    assert cache.fill(path, make)
    assert not cache.fill(path, make)
    assert made == [1]
    assert torch.equal(load_file(path)["embeds"], torch.ones(2))


def test_what_tensors_are_made_of_decides_their_place(tmp_path):
    cache = TensorCache(tmp_path)
    paths = {cache.path(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), (b"abc", "x"))}
    assert len(paths) == 4
    assert cache.path("ab", "c") == cache.path("ab", "c")


def test_a_damaged_file_is_made_anew(tmp_path):
    cache = TensorCache(tmp_path)
    path = cache.path("text")
    cache.fill(path, lambda: {"embeds": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:-3])
    assert cache.fill(path, lambda: {"embeds": torch.zeros(2)})
    assert torch.equal(load_file(path)["embeds"], torch.zeros(2))


def test_a_folder_that_cannot_be_written_into_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file")
    cache = TensorCache(tmp_path / "cache")
    path = cache.path("text")
    said = (
        rf"Encoded pairs were to be saved in {path.parent}; the system refused: Not a directory\. 2\.0 MB are needed"
        r".*choose another folder"
    )
    with pytest.raises(ValueError, match=said):
        cache.fill(path, lambda: {"embeds": torch.ones(500_000)})


def test_no_part_of_a_file_is_left_when_making_fails(tmp_path):
    cache = TensorCache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.fill(cache.path("text"), lambda: 1 / 0)
    assert [files for _, _, files in os.walk(tmp_path) if files] == []


def test_a_running_mean_follows_its_values():
    assert running_mean([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert running_mean([0.0, 1.0], kept=0.5) == pytest.approx([0.0, 2 / 3])
    assert running_mean([]) == []


def extent(picture: torch.Tensor, *colours: tuple[int, int, int]) -> list[int]:
    """The first and last row and the first and last column of what has one of these colours; [] for nothing."""
    wanted = torch.tensor(colours, dtype=torch.float32) / 255
    rows, columns = ((picture[:, :, None] - wanted).abs().amax(-1).amin(-1) < 1e-3).nonzero(as_tuple=True)
    return [int(edge) for places in (rows, columns) for edge in (places.min(), places.max())] if len(rows) else []


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0, 0.5], [1.0, 1.0]])
def test_losses_are_drawn(losses):
    picture = loss_plot(losses)
    assert picture.shape == (1, 360, 640, 3)
    assert 0 <= picture.min() < picture.max() == 1
    assert len(losses) > 1 or not extent(picture[0], PALE, LINE)


@pytest.mark.parametrize("losses", [[5.0, 2.0], [float(n) for n in range(100, 0, -1)]], ids=["two", "many"])
def test_losses_fill_the_frame_from_their_highest_to_their_lowest(losses):
    picture = loss_plot(losses, (400, 300))[0]
    assert extent(picture, PALE, LINE) == pytest.approx([48, 252, 48, 352], abs=2)
    ink = torch.tensor(INK) / 255
    for axis in (picture[48:253, 48], picture[252, 48:353]):
        torch.testing.assert_close(axis, ink.expand_as(axis), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ((40, 53), (2, 46)),
        ((244, 257), (2, 46)),
        ((260, 270), (46, 56)),
        ((260, 270), (300, 400)),
        ((12, 28), (48, 240)),
    ],
    ids=["the highest", "the lowest", "the first step", "the number of steps", "the title"],
)
def test_numbers_stand_beside_the_frame(rows, columns):
    picture = loss_plot([0.5, 0.25], (400, 300))[0].mean(-1)
    around = picture.clone()
    around[47:254, 47:354] = 1
    assert (around[slice(*rows), slice(*columns)] < 0.5).any()


def test_the_last_mean_is_in_the_title():
    first, second = (loss_plot([2.0, last], (400, 300))[0, 12:28] for last in (1.0, 1.5))
    assert not torch.equal(first, second)
    assert not torch.equal(first, loss_plot([], (400, 300))[0, 12:28])


def test_falling_losses_are_drawn_falling():
    picture = loss_plot([float(n) for n in range(100, 0, -1)])[0]
    blue = (picture[..., 2] - picture[..., 0] > 0.4).nonzero().float()
    left, right = blue[blue[:, 1] < 200], blue[blue[:, 1] > 440]
    assert left[:, 0].mean() < right[:, 0].mean()


def test_a_trained_adapter_is_written_in_half_precision_with_a_note_and_can_be_read(tmp_path):
    tensors = adapter_tensors("sd15")
    write_adapter(tensors, tmp_path / "made" / "trained.safetensors", "on a test")
    path = tmp_path / "made" / "trained.safetensors"
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name].half()) for name in tensors)
    assert read_checkpoint(path).family.name == "sd15"
    assert read_metadata(path) == {"format": "pt", "trained": "on a test"}
    assert [file.name for file in path.parent.iterdir()] == ["trained.safetensors"]


def test_an_adapter_that_cannot_be_written_is_said_with_its_size(tmp_path):
    (tmp_path / "file").write_text("")
    said = (
        rf"The adapter's weights were to be saved in {tmp_path / 'file'}; the system refused: File exists\. "
        r"2\.0 MB are needed.*choose another place"
    )
    with pytest.raises(ValueError, match=said):
        write_adapter({"a": torch.zeros(1_000_000)}, tmp_path / "file" / "trained.safetensors", "")


def test_a_trained_adapter_is_written_into_a_folder_that_is_there_and_into_one_deep_inside(tmp_path):
    for folder in (tmp_path, tmp_path / "new" / "folder", tmp_path / "new"):
        write_adapter({"a": torch.ones(1)}, folder / "trained.safetensors", "")
        assert load_file(folder / "trained.safetensors")["a"] == 1
