"""cli.py pairs on real servers with the stand-ins: each task's recipe, what a kill does, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comfyhost.places import REPO_ROOT, host
from comfyhost.standins import small_models
from ipadapter_instruct.commands.evaluate.manifest import read_manifest
from ipadapter_instruct.commands.pairs.recipes import RECIPES
from ipadapter_instruct.models.training.pairs import read_pairs
from PIL import Image
from support.patience import PATIENCE
from support.servers.pair_sets import SIDE, draw, lines, pairs, pixels

TASKS = ("everything", "style", "colour", "pose", "composition", "face", "foreground", "background", "object")
SMALL = 128


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("few"), 4)


def quick(name: str, folder: Path) -> list[str]:
    """Arguments for a shipped workflow with fewer steps and pixels; none where a task needs no workflow."""
    if not name:
        return []
    workflow = json.loads((REPO_ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        values = node.get("widgets_values", [])
        if node["type"] == "KSampler":
            values[2] = 2
        elif node["type"] in ("EmptyLatentImage", "ImageScale"):
            node["widgets_values"] = [SMALL if value in (512, 1024) else value for value in values]
    (folder / f"{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    return ["--workflow", str(folder / f"{name}.json")]


@pytest.fixture(scope="module")
def made(small_server, few, tmp_path_factory) -> Path:
    """The pairs of every task, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    output = folder / "pairs"
    for task in TASKS:
        done = pairs(
            task, few, output, "--held-out", "1", *quick(RECIPES[task].workflow, folder), servers=[small_server]
        )
        assert done.returncode == 0, (task, done.stderr[-2000:])
    return output


def test_every_task_has_a_recipe_and_all_are_read_together(made):
    found = read_pairs(made)
    assert {pair.task for pair in found} == set(TASKS)
    for pair in found:
        assert pair.reference().shape[-1] == pair.target().shape[-1] == 3
    by_task = {pair.task: pair for pair in found}
    assert "use the disc" in by_task["object"].instructions
    assert "use the style" in by_task["style"].instructions


@pytest.mark.parametrize("task", TASKS)
def test_one_task_is_a_set_by_itself_with_a_part_held_out(made, few, task):
    trained, trials = lines(made / task / "pairs.jsonl"), lines(made / task / "held_out.jsonl")
    assert len(trained) + len(trials) == 4
    assert len(trials) == (2 if task == "face" else 1), "whole people"
    assert len(read_pairs(made / task)) == len(trained)
    references = {line["reference"] for line in trials}
    assert references.isdisjoint({line["reference"] for line in trained})
    assert all((made / task / reference).is_file() for reference in references)
    for trial in trials:
        assert trial.keys() - {"instruction", "identity"} == {"reference", "task", "prompt", "seed", "caption"}
        assert ("identity" in trial) == (task == "face")
    assert {line["reference"] for line in lines(made / "held_out.jsonl")} >= {f"{task}/{name}" for name in references}
    assert [row.task for row in read_manifest(made / task / "held_out.jsonl").rows] == [task] * len(trials)


def test_what_is_held_out_is_a_manifest_to_evaluate_by(made):
    manifest = read_manifest(made / "held_out.jsonl")
    assert {row.task for row in manifest.rows} == set(TASKS)
    (thing,) = (row for row in manifest.rows if row.task == "object")
    assert thing.wordings == ("use the disc",) and manifest.path(thing).is_file()


def test_what_is_copied_is_the_same_file_and_what_is_made_another(made, few):
    originals = {path.read_bytes() for path in few.rglob("[0-9].png")}
    for task in TASKS:
        for line in lines(made / task / "pairs.jsonl"):
            same = {part: (made / task / line[part]).read_bytes() in originals for part in ("reference", "target")}
            made_reference, made_target = task == "object", task not in ("everything", "face", "object")
            if task != "face":
                assert same == {"reference": not made_reference, "target": not made_target}, task
            else:
                assert same["target"]


def test_the_words_of_a_new_picture_are_another_ones_and_those_of_an_old_one_its_own(made):
    words = {task: {line["caption"] for line in lines(made / task / "pairs.jsonl")} for task in TASKS}
    assert all(text.startswith("a disc, number") for texts in words.values() for text in texts)
    style = lines(made / "style" / "held_out.jsonl")[0]
    assert style["prompt"] != style["caption"]
    composition = lines(made / "composition" / "held_out.jsonl")[0]
    assert composition["prompt"] == composition["caption"]


def test_an_object_is_cut_out_on_a_colour(made):
    line = lines(made / "object" / "pairs.jsonl")[0]
    reference, target = (pixels(made / "object" / line[part]) for part in ("reference", "target"))
    assert reference.shape[0] == reference.shape[1] < SIDE
    assert (reference[0, 0] != target[0, 0]).any()
    middle = len(reference) // 2
    assert (reference[middle, middle] == target[50, 45]).all()


@pytest.mark.parametrize("task", ["foreground", "background"])
def test_what_is_kept_is_kept_to_the_pixel(made, few, task):
    for line in lines(made / task / "pairs.jsonl"):
        reference = Image.open(made / task / line["reference"]).convert("RGB").resize((SMALL, SMALL), Image.LANCZOS)
        change = np.abs(np.asarray(reference).astype(int) - pixels(made / task / line["target"])).max(-1)
        inside, outside = change[57:73, 50:65], change[:15, :15]
        kept, drawn = (inside, outside) if task == "foreground" else (outside, inside)
        assert kept.max() <= 2 < drawn.mean()


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_made(small_server, tmp_path):
    pictures = draw(tmp_path / "pictures", 3)
    wrong = pictures / "person-1" / "1.png"
    whole = wrong.read_bytes()
    wrong.write_bytes(whole[: len(whole) // 2])
    done = pairs("object", pictures, tmp_path / "pairs", servers=[small_server])
    assert done.returncode == 1 and "person-1/1.png" in done.stderr
    (failed,) = lines(tmp_path / "pairs" / "object" / "failed.jsonl")
    assert failed["picture"] == "person-1/1.png" and "cannot be read" in failed["error"]
    assert len(lines(tmp_path / "pairs" / "pairs.jsonl")) == 2
    wrong.write_bytes(whole)
    done = pairs("object", pictures, tmp_path / "pairs", servers=[small_server])
    assert done.returncode == 0 and len(lines(tmp_path / "pairs" / "pairs.jsonl")) == 3
    assert lines(tmp_path / "pairs" / "object" / "failed.jsonl") == []


def test_a_workflow_without_its_places_is_refused_before_anything_runs(small_server, few, tmp_path):
    workflow = json.loads((REPO_ROOT / "workflows" / "pairs_style.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node.get("title") in ("Prompt", "Target"):
            del node["title"]
    (tmp_path / "mine.json").write_text(json.dumps(workflow), encoding="utf-8")
    done = pairs("style", few, tmp_path / "pairs", "--workflow", str(tmp_path / "mine.json"), servers=[small_server])
    assert done.returncode == 1
    assert "mine.json was expected to have nodes titled Prompt, Target; it has Picture, Seed" in done.stderr
    assert not (tmp_path / "pairs" / "style" / "images").exists()


def test_a_task_of_ones_own_by_a_workflow_exported_for_the_api(small_server, few, tmp_path):
    def node(kind: str, title: str = "", **inputs) -> dict:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}

    prompt = {
        "1": node("LoadImage", "Picture", image="x.png"),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("SaveImage", "target", images=["2", 0], filename_prefix="mine"),
        "4": node("PrimitiveStringMultiline", "Prompt", value="x"),
        "5": node("PreviewAny", "Caption", source=["4", 0]),
    }
    (tmp_path / "mine.json").write_text(json.dumps(prompt), encoding="utf-8")
    more = ["--workflow", str(tmp_path / "mine.json"), "--instruction", "use the inverted look", "--shards", "3"]
    done = pairs("inverted", few, tmp_path / "pairs", *more, servers=[small_server])
    assert done.returncode == 0, done.stderr
    found = read_pairs(tmp_path / "pairs")
    assert [pair.instructions[0] for pair in found] == ["use the inverted look"] * 4
    assert all(np.abs(pair.reference() + pair.target() - 1).max() < 0.01 for pair in found)
    shards = read_pairs(tmp_path / "pairs" / "shards")
    assert sorted(path.name for path in (tmp_path / "pairs" / "shards").iterdir()) == ["000000.tar", "000001.tar"]
    assert [(pair.caption, pair.instructions) for pair in shards] == [(p.caption, p.instructions) for p in found]
    assert all((one.target() == other.target()).all() for one, other in zip(shards, found, strict=True))


def test_faces_need_no_server_where_none_is_zoomed(few, tmp_path):
    done = pairs("face", few, tmp_path / "pairs")
    assert done.returncode == 0 and "no reference is zoomed" in done.stderr
    assert len(read_pairs(tmp_path / "pairs")) == 4
    done = pairs("style", few, tmp_path / "pairs")
    assert done.returncode == 1 and "pairs_style.json" in done.stderr and "Say --server URL" in done.stderr


def test_a_picture_that_a_camera_has_turned_is_stored_upright(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture, exif = Image.new("RGB", (40, 20), (200, 10, 10)), Image.Exif()
    exif[274] = 6
    picture.save(folder / "a.jpg", exif=exif)
    (folder / "a.txt").write_text("red", encoding="utf-8")
    Image.new("RGB", (40, 20)).save(folder / "b.jpg")
    (folder / "b.txt").write_text("black", encoding="utf-8")
    assert pairs("everything", folder, tmp_path / "pairs").returncode == 0
    first, other = read_pairs(tmp_path / "pairs")
    assert first.reference().shape[:2] == (40, 20) and other.reference().shape[:2] == (20, 40)


@pytest.mark.long("reading the set is tested above, and training on a folder in tests/tools/test_train_command")
def test_a_set_is_trained_on(made, tmp_path):
    models = small_models()
    (encoder,) = (models / "clip_vision").glob("*")
    files = ["--checkpoint", models / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors", "--clip-vision", encoder]
    how = ["--max-train-steps", 2, "--batch-size", 2, "--resolution", 64, "--width", 64, "--blocks", 1, "--tokens", 4]
    rest = ["--comfyui", host().comfyui, "--cpu", "--data", made / "object", "--output", tmp_path / "mine.safetensors"]
    words = [sys.executable, REPO_ROOT / "cli.py", "train", *files, *how, *rest]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=PATIENCE, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "mine.safetensors").is_file()
