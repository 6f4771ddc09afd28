"""cli.py pairs leaves pairs out by a CLIP's scores, and says which and why; transformers scores them likewise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from comfyhost.places import REPO_ROOT, host
from PIL import Image
from support.patience import PATIENCE
from support.random_clip import random_clip_l, saved

SIDE = 28  # of what the encoder reads, so that nothing is scaled
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def clip() -> transformers.CLIPModel:
    return random_clip_l()


@pytest.fixture(scope="module")
def clip_file(clip, tmp_path_factory) -> Path:
    return saved(clip, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        person = folder / f"person-{number % 2}"
        person.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise // (1 + number % 3)).save(person / f"{number}.png")
        (person / f"{number}.txt").write_text(f"number {number}", encoding="utf-8")
    return folder


def run(pictures: Path, output: Path, clip_file: Path, *more: str) -> subprocess.CompletedProcess:
    named = ["--clip-vision", clip_file, "--clip-text", clip_file, "--comfyui", host().comfyui, "--cpu"]
    where = ["--task", "face", "--pictures", pictures, "--output", output]
    words = [sys.executable, REPO_ROOT / "cli.py", "pairs", *where, *named, *more]
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=PATIENCE)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def alike(clip: transformers.CLIPModel, one: Path, other: Path) -> float:
    def embedding(path: Path) -> torch.Tensor:
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).float() / 255
        pixels = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, 0)[None]
        with torch.no_grad():
            return clip.visual_projection(clip.vision_model(pixels).pooler_output)[0]

    return torch.cosine_similarity(embedding(one), embedding(other), dim=0).item()


def test_pairs_are_left_out_by_their_scores_and_listed_with_the_reason(clip, clip_file, pictures, tmp_path):
    output = tmp_path / "pairs"
    done = run(pictures, output, clip_file, "--most-alike", "-1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CLIP-I of 8 pairs: 5 % are below" in done.stderr and "8 pairs are left out" in done.stdout
    everything = lines(output / "face" / "dropped.jsonl")
    assert len(everything) == 8 and lines(output / "pairs.jsonl") == []
    for line in everything:
        expected = alike(clip, *(output / "face" / line[part] for part in ("reference", "target")))
        assert line["scores"]["CLIP-I"] == pytest.approx(expected, abs=1e-4)

    scores = sorted(line["scores"]["CLIP-I"] for line in everything)
    limit = (scores[3] + scores[4]) / 2
    done = run(pictures, output, clip_file, "--most-alike", f"{limit:.6f}")
    dropped, kept = lines(output / "face" / "dropped.jsonl"), lines(output / "face" / "pairs.jsonl")
    assert len(dropped) == len(kept) == 4, "the pictures are still there"
    assert all(line["scores"]["CLIP-I"] > limit and line["why"].startswith("too alike: CLIP-I") for line in dropped)

    done = run(pictures, output, clip_file, "--least-alike", f"{limit:.6f}", "--held-out", "4")
    assert done.returncode == 0
    assert all("not alike enough" in line["why"] for line in lines(output / "face" / "dropped.jsonl"))
    assert len(lines(output / "face" / "held_out.jsonl")) == 4, "what is held out is not filtered"
    done = run(pictures, output, clip_file, "--least-prompt", "2.5")
    assert all("not what the caption says" in line["why"] for line in lines(output / "face" / "dropped.jsonl"))
    assert len(lines(output / "face" / "dropped.jsonl")) == 8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--most-alike", "0.9"], "A CLIP to score pairs by was expected with --most-alike"),
        (["--most-alike", "7", "--clip-vision", "x"], "most_alike was expected to be a number from -1 to 1"),
        (["--clip-vision", "gone"], "A file was expected at gone"),
        (["--clip-vision", "gone", "--open-clip", "ViT-B-32", "gone"], "One CLIP was expected"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_once(pictures, tmp_path, more, words):
    where = ["--task", "face", "--pictures", str(pictures), "--output", str(tmp_path / "pairs")]
    done = subprocess.run(
        [sys.executable, REPO_ROOT / "cli.py", "pairs", *where, *more], capture_output=True, text=True
    )
    assert done.returncode == 1 and words in done.stderr
    assert not (tmp_path / "pairs").exists()
