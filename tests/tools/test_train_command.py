"""cli.py train on small files: a run to a file, killed and resumed, on two processes; what it says of wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyhost.encoders import vit_h
from comfyhost.places import REPO_ROOT, host
from comfyhost.standins import StandIn, small_models, write_stand_ins
from ipadapter_instruct.models.adapter.checkpoint import build, read_checkpoint
from ipadapter_instruct.models.adapter.kinds import INSTRUCT
from PIL import Image
from safetensors.torch import load_file
from support.patience import PATIENCE

pytestmark = pytest.mark.xdist_group("cli.py train")
STEPS, SIDE = 4, 64
SMALL = ("--width", "64", "--blocks", "1", "--tokens", "4")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Four pairs of two tasks and as many references, since reading one takes ViT-H seconds."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for number, colour in enumerate(("red", "green") * 2):
        Image.new("RGB", (80, 80), colour).save(folder / f"{colour}.png")
        Image.linear_gradient("L").convert("RGB").rotate(90 * number).save(folder / f"target-{number}.png")
        task = ("style", "colour")[number % 2]
        line = {"reference": f"{colour}.png", "target": f"target-{number}.png", "caption": "a slope", "task": task}
        lines.append(json.dumps(line))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder


def command(pairs: Path, output: Path, *more: str, steps: int = STEPS) -> list[str]:
    models = small_models()
    (encoder,) = (models / "clip_vision").glob("*")
    checkpoint = models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors"
    files = ["--data", pairs, "--checkpoint", checkpoint, "--clip-vision", encoder, "--output", output]
    how = ["--max-train-steps", steps, "--batch-size", "2", "--resolution", SIDE, "--lr-warmup-steps", "2"]
    how += ["--gradient-accumulation-steps", "2"]
    every = ["--logging-steps", "1", "--checkpointing-steps", "1", "--validation-steps", "100"]
    rest = [*every, "--comfyui", host().comfyui, "--cpu"]
    return [str(REPO_ROOT / "cli.py"), "train", *map(str, [*files, *how, *rest]), *SMALL, *more]


def run(arguments: list[str], *launcher: str) -> subprocess.CompletedProcess:
    whole = [sys.executable, *launcher, *arguments]
    return subprocess.run(whole, env=one_thread(), capture_output=True, text=True, timeout=PATIENCE)


def one_thread() -> dict[str, str]:
    """Sums depend on how many threads they are divided among."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory) -> Path:
    """The adapter that a run writes when nothing disturbs it."""
    output = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    done = run(command(pairs, output))
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def test_a_run_writes_an_adapter_its_losses_and_samples(whole):
    checkpoint = read_checkpoint(whole)
    assert checkpoint.kind is INSTRUCT
    assert build(checkpoint).image_projection.sizes.tokens == 4
    work = whole.with_name("whole-training")
    losses = [json.loads(line) for line in (work / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == list(range(1, STEPS + 1))
    assert Image.open(work / "samples" / f"{STEPS:06d}.png").size == (3 * SIDE, 2 * SIDE)
    assert Image.open(work / "losses.png").size == (640, 360)


def test_a_killed_run_goes_on_to_the_same_bits(pairs, whole, tmp_path):
    output = tmp_path / "killed.safetensors"
    work = ["--work", str(tmp_path / "work")]
    work += ["--cache", str(whole.with_name("whole-training") / "cache")]
    arguments = [sys.executable, *command(pairs, output, *work)]
    with subprocess.Popen(arguments, env=one_thread(), stderr=subprocess.PIPE, text=True) as killed:
        for line in killed.stderr:
            if line.startswith("step 2 of"):
                killed.send_signal(signal.SIGKILL)
    before = torch.load(tmp_path / "work" / "state.pt", weights_only=True)["step"]
    assert 1 <= before < STEPS
    losses = tmp_path / "work" / "losses.jsonl"
    losses.write_text(losses.read_text() + '{"step": 2, "lo')  # as a full disk leaves it
    done = run(command(pairs, output, *work))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resumed after step {before}" in done.stderr
    found, expected = load_file(output), load_file(whole)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []

    steps = [json.loads(line)["step"] for line in losses.read_text().splitlines()]
    assert sorted({*steps}) == list(range(1, STEPS + 1)) and steps[-1] == STEPS
    for option, name, was, now in (
        ("--learning-rate", "learning_rate", "0.0001", "0.01"),
        ("--vae", "vae", "None", "other.safetensors"),
        ("--text-encoder", "text_encoders", "None", "other.safetensors"),
    ):
        other = run(command(pairs, output, *work, option, now))
        assert other.returncode == 1
        assert f"{name} was {was} and is now {now}" in other.stderr


def test_another_training_takes_what_was_encoded_for_the_first_and_may_learn_one_wording_a_task(pairs, whole, tmp_path):
    cache = whole.with_name("whole-training") / "cache"
    before = sorted(cache.rglob("*.safetensors"))
    more = ("--cache", str(cache), "--fixed-instructions")
    done = run(command(pairs, tmp_path / "fixed.safetensors", *more, steps=1))
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(cache.rglob("*.safetensors")) == before
    assert not (tmp_path / "fixed-training" / "cache").exists()
    assert set(read_checkpoint(tmp_path / "fixed.safetensors").instructions) == {"use the style", "use the colour"}
    other = run(command(pairs, tmp_path / "fixed.safetensors", steps=1))
    assert other.returncode == 1 and "fixed_instructions was True and is now False" in other.stderr


def test_an_image_encoder_of_fewer_layers_than_comfyui_knows_is_read(pairs, tmp_path):
    encoder = StandIn("clip_vision/two_layers.safetensors", lambda: vit_h(layers=2))
    write_stand_ins(tmp_path, (encoder,))
    read = ("--clip-vision", str(tmp_path / encoder.path))
    done = run([*command(pairs, tmp_path / "short.safetensors", steps=1), *read])
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "short.safetensors").is_file()


def test_two_processes_train_together(pairs, whole, tmp_path):
    output = tmp_path / "both.safetensors"
    where = ["--work", str(tmp_path / "work"), "--cache", str(whole.with_name("whole-training") / "cache")]
    # what `accelerate launch` starts on several cards; on the CPU it would start a single process
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--tee", "3")
    done = run(command(pairs, output, *where, steps=2), *launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"[default{rank}]:images encoded" in done.stderr for rank in (0, 1))
    found = load_file(output)
    assert all(torch.isfinite(weight).all() for weight in found.values())
    lines = (tmp_path / "work" / "losses.jsonl").read_text().splitlines()
    assert len(lines) == 2, "one process alone writes"
    alone = (whole.with_name("whole-training") / "losses.jsonl").read_text().splitlines()
    for said in ("loss", "grad_norm"):  # the means over both, each of which has examples of its own
        assert json.loads(lines[0])[said] != pytest.approx(json.loads(alone[0])[said], rel=1e-4)


@pytest.mark.parametrize(
    "changed, said",
    [
        (["--data", "nowhere"], "A folder with pairs.jsonl, or .tar shards, was expected at nowhere"),
        (["--checkpoint", "nowhere.safetensors"], "A file was expected at nowhere.safetensors"),
        (["--learning-rate", "0"], "learning_rate was expected to be a number"),
        (["--comfyui", "/"], "ComfyUI was expected in /"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(pairs, tmp_path, changed, said):
    done = run([*command(pairs, tmp_path / "x.safetensors"), *changed])
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
