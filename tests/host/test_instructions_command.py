"""cli.py instructions from a text encoder's file: embeddings as transformers has them, a report, a map."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import comfy.sd1_clip
import pytest
import torch
import transformers
from comfyhost.places import REPO_ROOT, host
from ipadapter_instruct.commands.instructions.report import embedded
from PIL import Image
from support.patience import PATIENCE

TEXTS = ["use the style", "take (the style:1.3), 8k", "", *(f"use number {n}" for n in range(40)), "a red square " * 40]


@pytest.fixture(scope="module")
def encoder() -> transformers.CLIPTextModel:
    """CLIP-L's text tower with two layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 256}
    ids = {"bos_token_id": 49406, "eos_token_id": 49407, "vocab_size": 49408}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes, **ids, initializer_factor=4.0)).eval()


@pytest.fixture(scope="module")
def file(encoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    encoder.save_pretrained(folder)
    return folder / "model.safetensors"


def run(*arguments: object) -> subprocess.CompletedProcess:
    where = ["--comfyui", host().comfyui, "--cpu"]
    whole = [sys.executable, REPO_ROOT / "cli.py", "instructions", *arguments, *where]
    return subprocess.run(list(map(str, whole)), capture_output=True, text=True, timeout=PATIENCE)


@torch.no_grad()
def test_a_wording_is_embedded_as_transformers_pools_it(encoder, file):
    words = transformers.CLIPTokenizer.from_pretrained(Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer"))
    tokens = words(TEXTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    expected = encoder(**tokens).pooler_output
    assert torch.allclose(embedded(file, TEXTS), expected, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01


def test_a_report_is_printed_and_a_map_is_drawn(file, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"hat": ["use the hat", "take the style of a hat"]}))
    done = run("--text-encoder", file, "--wordings", own, "--plot", tmp_path / "map.png")
    assert done.returncode == 0, done.stderr[-2000:]
    first, *rest = done.stdout.splitlines()
    assert first.startswith("Nearest other wording of the same task: ")
    assert any(line.startswith("  hat ") and line.endswith("of 2") for line in rest)
    assert Image.open(tmp_path / "map.png").size == (1240, 900)


@pytest.mark.parametrize(
    "changed, said",
    [
        (("--text-encoder", "gone.safetensors"), "A text encoder's file was expected at gone.safetensors"),
        (("--text-encoder", REPO_ROOT / "pyproject.toml"), "pyproject.toml"),
        (("--wordings", "gone.json"), "Wordings were expected in gone.json"),
        (("--plot", "/nowhere/map.png"), "/nowhere"),
    ],
)
def test_what_cannot_be_read_or_written_is_said_in_a_sentence(file, changed, said):
    done = run("--text-encoder", file, *changed)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
