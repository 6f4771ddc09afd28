"""cli.py evaluate on real servers: a table that is the same however it came about."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from comfyhost.places import REPO_ROOT, host
from comfyhost.prompt_builder import ApiPrompt
from comfyhost.server import ComfyServer
from comfyhost.standins import StandIn, adapter_for, write_stand_ins
from ipadapter_instruct.commands.evaluate.libraries import ALEXNET
from ipadapter_instruct.commands.evaluate.making import Maker, shipped_workflow
from ipadapter_instruct.commands.evaluate.manifest import read_manifest
from ipadapter_instruct.commands.evaluate.plan import ANY_TASK, Contender, Setting, trials
from PIL import Image
from support import face_models
from support.patience import PATIENCE
from support.random_clip import random_clip, saved
from support.servers.answering_judge import Answering

from .conftest import TINY

OTHER = "other_sd15.safetensors"
RESULTS = ("table.json", "table.md", "scores.jsonl", "sheet.png")
TASKS = ("style", "pose")
EVERY = ("--adapter", f"joint={TINY}", "--fixed-adapter", f"fixed={TINY}", "--task-adapter", f"style={OTHER}")
IMAGES = 14  # four rows each by joint, fixed and none, and two by the adapter for style


@pytest.fixture(scope="module")
def second(server: ComfyServer) -> Iterator[ComfyServer]:
    """A second server with the same models."""
    with ComfyServer(arguments=server.arguments) as running:
        yield running


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """Two references, and two tasks of each."""
    write_stand_ins(models, (StandIn(f"ipadapter/{OTHER}", lambda: adapter_for("sd15", kind="sd15"), seed=1),))
    folder = tmp_path_factory.mktemp("set")
    lines = []
    for number, colour in enumerate(("red", "green")):
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(folder / f"{colour}.png")
        for task in TASKS:
            line = {"reference": f"{colour}.png", "task": task, "prompt": f"a {colour} {task}", "seed": number}
            lines.append({**line, "caption": f"a {colour} slope"})
    return written(folder / "manifest.jsonl", lines)


def written(path: Path, lines: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def workflow(tiny: ApiPrompt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped workflow with small models, as ComfyUI exports one for its API."""
    path = tmp_path_factory.mktemp("workflow") / "tiny.json"
    path.write_text(json.dumps(tiny))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP's file."""
    vision = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 16, "intermediate_size": 64}
    text = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 64}
    return saved(random_clip({**vision, "image_size": 28, "patch_size": 14}, text, 32), tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def command(workflow: Path, clip: Path) -> Callable[..., list[str]]:
    """The command line, given a manifest, an output folder and servers."""
    how = ["--workflow", workflow, "--no-adapter", "--clip-vision", clip, "--clip-text", clip]
    how += ["--comfyui", host().comfyui, "--cpu", *EVERY]

    def line(manifest: Path, output: Path, *servers: ComfyServer) -> list[str]:
        named = [part for server in servers for part in ("--server", server.url)]
        where = ["--manifest", manifest, "--output", output, *named]
        return [sys.executable, str(REPO_ROOT / "cli.py"), "evaluate", *map(str, [*where, *how])]

    return line


def run(arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def compared(command, manifest: Path, server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one server and a run that nothing disturbs."""
    output = tmp_path_factory.mktemp("compared")
    done = run(command(manifest, output, server))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{IMAGES} of {IMAGES} done" in done.stderr
    return output


def check_same(output: Path, compared: Path) -> None:
    assert [name for name in RESULTS if (output / name).read_bytes() != (compared / name).read_bytes()] == []


def made(output: Path) -> int:
    return len(list((output / "images").glob("*.png")))


def test_the_table_has_a_line_for_each_adapter_and_task_with_the_papers_scores(compared):
    table = json.loads((compared / "table.json").read_text())
    lines = {(line["task"], line["adapter"]): line for line in table["lines"]}
    all_tasks = ("joint", "fixed", "no adapter")
    expected = {("style", "one adapter a task"), *((task, label) for task in TASKS for label in all_tasks)}
    assert set(lines) == expected
    assert all(line["count"] == 2 for line in lines.values())
    assert all(set(line["scores"]) == {"CLIP-I", "CLIP-T", "CLIP-P", "CLIP-S"} for line in lines.values())
    style = [lines["style", label]["scores"]["CLIP-I"]["mean"] for label in ("joint", "one adapter a task")]
    assert style[0] != style[1]
    text = (compared / "table.md").read_text()
    assert "| adapter | weight | guidance | images | CLIP-I | CLIP-T | CLIP-P\\* | CLIP-S\\* |" in text
    assert "| one adapter a task | 0.8 | simple | 2 |" in text
    assert Image.open(compared / "sheet.png").width > 4 * 256


def test_without_an_adapter_the_reference_does_not_count(compared):
    """At weight 0 the instruction and the picture change nothing: prompt and seed alone make the image."""
    lines = [json.loads(line) for line in (compared / "scores.jsonl").read_text().splitlines()]
    bare = [line for line in lines if line["adapter"] == "no adapter"]
    assert {line["weight"] for line in bare} == {0.0} and len(bare) == 4


def test_a_second_run_makes_nothing_and_needs_no_server(command, manifest, compared):
    before = {path: path.stat().st_mtime_ns for path in (compared / "images").iterdir()}
    done = run(command(manifest, compared))
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in (compared / "images").iterdir()} == before


def test_an_adapter_trained_anew_under_its_old_name_is_tried_anew(
    command, manifest, compared, server, models, tmp_path
):
    output = shutil.copytree(compared, tmp_path / "output")
    before = {path.name for path in (output / "images").iterdir()}
    file = models / "ipadapter" / OTHER
    kept = file.read_bytes()
    try:
        file.unlink()
        write_stand_ins(models, (StandIn(f"ipadapter/{OTHER}", lambda: adapter_for("sd15", kind="sd15"), seed=2),))
        done = run(command(manifest, output, server))
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        file.write_bytes(kept)
    assert len({path.name for path in (output / "images").iterdir()} - before) == 2, "those of this adapter alone"
    lines, old = ((folder / "scores.jsonl").read_text().splitlines() for folder in (output, compared))
    changed = [json.loads(line)["adapter"] for line in lines if line not in old]
    assert changed == ["one adapter a task"] * 2


@pytest.mark.long("tests/unit/test_evaluation_manifest asks the same whatever the order")
def test_rows_in_another_order_give_the_same_table(command, manifest, compared, server, tmp_path):
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    turned = written(manifest.with_name("turned.jsonl"), lines[::-1])
    done = run(command(turned, tmp_path, server))
    assert done.returncode == 0, done.stderr[-3000:]
    check_same(tmp_path, compared)


def test_two_servers_one_of_which_is_killed_give_the_same_table(command, manifest, compared, server, second, tmp_path):
    def kill_second() -> None:
        while made(tmp_path) < 3:
            time.sleep(0.05)
        second.process.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_second, daemon=True)
    killer.start()
    done = run(command(manifest, tmp_path, server, second))
    killer.join()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "It is asked again; the others go on." in done.stderr
    check_same(tmp_path, compared)


def test_a_command_that_was_killed_goes_on_to_the_same_table(command, manifest, compared, server, tmp_path):
    with subprocess.Popen(command(manifest, tmp_path, server), env=ENVIRONMENT, stderr=subprocess.PIPE) as killed:
        while made(tmp_path) < 3:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "images").glob("*.png")}
    assert 3 <= len(before) < IMAGES
    done = run(command(manifest, tmp_path, server))
    assert done.returncode == 0, done.stderr[-3000:]
    again = [name for name, time in before.items() if (tmp_path / "images" / name).stat().st_mtime_ns != time]
    assert len(again) <= 1, "one may have been written, and not noted yet"
    check_same(tmp_path, compared)


@pytest.mark.long("tests/server/test_pairs_command names pictures by line")
def test_a_picture_that_cannot_be_read_is_named_by_line_and_the_others_are_made(command, manifest, server, tmp_path):
    whole = (manifest.parent / "red.png").read_bytes()
    (manifest.parent / "cut.png").write_bytes(whole[: len(whole) // 2])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()][:2]
    path = written(manifest.with_name("with-cut.jsonl"), [lines[0], {**lines[1], "reference": "cut.png"}])
    done = run(command(path, tmp_path, server))
    assert done.returncode == 1
    assert "line 2 of with-cut.jsonl by joint at weight 0.8, simple: " in done.stderr
    assert "cut.png was expected to be a picture; it cannot be read" in done.stderr
    table = (tmp_path / "table.md").read_text()
    assert "images could not be made: line 2" in table
    assert "| joint | 0.8 | simple | 1 |" in table


@pytest.mark.parametrize(
    "changed, said",
    [
        (("--adapter", "gone=gone.safetensors"), "gone.safetensors was expected among the server's adapters"),
        (("--adapter", f"joint={TINY}"), "A label of its own was expected for each adapter; joint is named twice"),
        (("--adapter", "joint"), "LABEL=NAME was expected"),
        (("--weight", "nan"), "weight was expected to be a number from -3 to 3"),
        (("--server", "http://127.0.0.1:9"), "127.0.0.1:9"),
        (("--open-clip", "ViT-L-14", "gone.bin"), "One CLIP was expected; two are named"),
        (("--dino", "gone"), "A file or folder was expected at gone"),
        (("--workflow", str(REPO_ROOT / "pyproject.toml")), "a workflow saved by ComfyUI"),
        (
            ("--workflow", str(REPO_ROOT / "workflows" / "grid.json")),
            'a node titled "Task", or a single IPAdapterInstructEncode (0 are there)',
        ),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_made(command, manifest, server, tmp_path, changed, said):
    servers = () if "--server" in changed else (server,)
    done = run([*command(manifest, tmp_path / "output", *servers), *changed])
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "output" / "images").exists()


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_shipped_workflows_are_filled_at_the_right_places(object_info, manifest, tmp_path, family):
    rows = read_manifest(manifest)
    maker = Maker.of(shipped_workflow(family), tmp_path, rows)
    (trial, *_) = trials(rows, [Contender("x", {ANY_TASK: "mine.safetensors"})], [Setting(0.65, "three-way")])
    prompt = maker.job(trial, {}).prompt(object_info, {"reference": "uploaded.png"})
    given = {node["class_type"]: node["inputs"] for node in prompt.values()}
    row = trial.row
    assert given["LoadImage"]["image"] == "uploaded.png"
    assert given["IPAdapterInstructLoader"]["adapter_name"] == "mine.safetensors"
    encode = given["IPAdapterInstructEncode"]
    assert [encode[name] for name in ("task", "instruction", "prompt")] == ["own words", trial.instruction, row.prompt]
    assert [given["IPAdapterInstructApply"][name] for name in ("weight", "guidance")] == [0.65, "three-way"]
    assert given["KSampler"]["seed"] == row.seed
    assert prompt[maker.places(object_info).outputs["Image"]]["class_type"] == "SaveImage"


@pytest.mark.long("tests/unit and tests/host see judge, faces and LPIPS each")
def test_people_are_compared_by_faces_variety_and_a_judge(command, server, tmp_path):
    people, models = tmp_path / "people", face_models.save_pack(tmp_path / "insightface" / "models" / "buffalo_l")
    for number, name in enumerate(("ann/1.png", "ann/2.png", "bob/1.png")):
        picture = face_models.image_of([face_models.Mark(128, 128, turn=0.2 * number)], 256, 256)[0]
        (people / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255).byte().numpy()).save(people / name)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(torchvision.models.alexnet().state_dict(), checkpoints / ALEXNET.file)
    judge = Answering(lambda asked: "Score: 3")
    threading.Thread(target=judge.serve_forever, daemon=True).start()
    line = command(people, tmp_path / "output", server)
    line[line.index("--manifest")] = "--identities"
    more = ["--faces", models, "--lpips", "--judge", judge.url, "--judge-runs", "1", "--seeds", "2"]
    environment = {**ENVIRONMENT, "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([*line, *map(str, more)], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    judge.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads((tmp_path / "output" / "table.json").read_text())
    scores = {line["adapter"]: line["scores"] for line in table["lines"]}
    assert set(scores) == {"joint", "fixed", "no adapter"}
    assert {found["face"]["count"] for found in scores.values()} == {6}, "the small detection model sees faces in noise"
    assert {found["LPIPS"]["count"] for found in scores.values()} == {7}, "six pairs of Ann's four images, one of Bob's"
    assert {found["CP x PF"]["mean"] for found in scores.values()} == {0.5625}
    assert len(judge.asked) == 3 * 6 * 2
