"""What is stored of the world: the checkpoint is rebuilt from it, and its base follows captions."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from small_world import check_base, files, sampling
from small_world.autoencoder import PREFIX as VAE
from small_world.base import CONTEXT, PREFIX, WIDTH
from small_world.encoders import Encoder, text_weights
from small_world.files import BASE, STORED, checkpoint, note_of, part, whole_checkpoint
from small_world.reader import read
from small_world.sampling import loaded

MOST = 30e6  # bytes of all stored files together


def test_the_stored_files_are_small():
    stored = list(STORED.glob("*"))
    assert STORED / BASE in stored
    assert sum(path.stat().st_size for path in stored) < MOST


def test_the_checkpoint_is_the_stored_weights_and_what_follows_from_them():
    stored = load_file(STORED / BASE)
    whole = whole_checkpoint(stored)
    narrow = stored["denoiser.context_embedder.weight"]
    wide = whole[f"{PREFIX}context_embedder.weight"]
    assert wide.shape == (WIDTH, CONTEXT)
    assert torch.equal(wide[:, : narrow.shape[1]], narrow)
    for name, weight in part(stored, "decoder.").items():
        assert torch.equal(whole[f"{VAE}taesd_decoder.{name}"], weight)
    again = whole_checkpoint(stored)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_checkpoint_of_other_weights_is_rebuilt(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "world_folder", lambda: tmp_path)
    path = checkpoint()
    before = path.stat().st_mtime_ns
    assert checkpoint().stat().st_mtime_ns == before
    files.save_tensors({"a": torch.zeros(1)}, path, "something older")
    assert note_of(checkpoint()) == note_of(STORED / BASE)
    assert "a" not in load_file(path)


def test_the_stored_base_follows_captions_of_held_out_scenes(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr(files, "world_folder", lambda: tmp_path)
    monkeypatch.setitem(sampling.ENCODERS, "text", Encoder(text_file.name, text_weights))
    monkeypatch.setattr("small_world.encoders.world_folder", lambda: text_file.parent)
    tried = check_base.trials(12)
    pictures = check_base.pictures_of(loaded(checkpoint()), [trial.text for trial in tried])
    assert check_base.all_followed(tried, [read(picture) for picture in pictures]) >= 0.75
