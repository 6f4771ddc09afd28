"""The manifests of `cli.py evaluate`: what a line says, wrong ones named all at once, and folders read as manifests."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from ipadapter_instruct.commands.evaluate.manifest import read_manifest
from ipadapter_instruct.commands.evaluate.plan import ANY_TASK, Contender, Setting, drawn, trials
from ipadapter_instruct.commands.evaluate.readers import read_dreambench, read_identities
from ipadapter_instruct.commands.servers.manifest import LINES_SHOWN
from ipadapter_instruct.models.guidance.tasks import KNOWN, phrasings
from PIL import Image
from support.refusals import refused

RIGHT = {"reference": "a.png", "task": "style", "prompt": "a boat", "seed": 7, "caption": "a cat"}
SETTINGS = [Setting(0.8, "auto")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "inside/c.png"):
        picture(tmp_path / "set" / name)
    return tmp_path / "set"


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def written(folder: Path, *lines: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_line_is_a_row_with_all_the_wordings_of_its_task(folder):
    (row,) = read_manifest(written(folder, RIGHT)).rows
    assert (row.reference, row.task, row.prompt, row.seed, row.caption) == tuple(RIGHT.values())
    assert row.wordings[0] == KNOWN["style"].instruction
    assert set(row.wordings) == set(phrasings(KNOWN["style"]))


def test_own_instructions_are_asked_as_they_are_and_name_their_task(folder):
    given = {"reference": "inside/c.png", "instruction": ["use the hat", "take the hat"], "prompt": "a man", "seed": 0}
    first, second = read_manifest(written(folder, given, {**given, "instruction": "use the hat", "task": "hat"})).rows
    assert (first.task, first.wordings) == ("use the hat", ("use the hat", "take the hat"))
    assert (second.task, second.wordings) == ("hat", ("use the hat",))


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"reference": "gone.png"}, "A file was expected in"),
        ({"reference": "../outside.png"}, "../outside.png leads out of it"),
        ({"reference": "inside/../../outside.png"}, "leads out of it"),
        ({"reference": "/etc/passwd"}, "leads out of it"),
        ({"reference": "link.png"}, "link.png leads out of it"),
        ({"reference": "text.png"}, "text.png was expected to be a picture; it cannot be read"),
        ({"reference": ""}, "The name of a file was expected"),
        ({"reference": 3}, "The reference was expected to be a text; it is 3"),
        ({"task": "hat"}, "An instruction was expected, or one of the tasks everything, style"),
        ({"task": None}, "The task was expected to be a text"),
        ({"instruction": [3]}, "to be a text, or a list of texts"),
        ({"instruction": " "}, "to be a text, or a list of texts"),
        ({"prompt": " "}, "A prompt was expected; there is none"),
        ({"prompt": "\ud83d"}, "The prompt was expected to be a text"),
        ({"seed": -1}, "a whole number from 0; it is -1"),
        ({"seed": 1 << 64}, "a whole number"),
        ({"seed": True}, "a whole number"),
        ({"seed": 1.5}, "a whole number"),
        ({"weight": 1}, "were expected and nothing else; it has weight"),
    ],
)
def test_a_wrong_line_is_named(folder, changed, said):
    picture(folder.parent / "outside.png")
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "text.png").write_text("no picture")
    path = written(folder, RIGHT, "", {**RIGHT, "seed": 8, **changed})
    refused(lambda: read_manifest(path), "1 lines of", "are wrong; nothing was run", "line 3 of manifest.jsonl: ", said)


def test_all_wrong_lines_are_named_at_once_up_to_a_readable_number(folder):
    lines = [{**RIGHT, "seed": -number - 1} for number in range(LINES_SHOWN + 5)]
    with pytest.raises(ValueError, match=f"{LINES_SHOWN + 5} lines of .* are wrong") as caught:
        read_manifest(written(folder, *lines))
    said = str(caught.value)
    assert all(f"line {number} of" in said for number in range(1, LINES_SHOWN + 1))
    assert f"line {LINES_SHOWN + 1} of" not in said
    assert "and 5 more" in said


@pytest.mark.parametrize("line", ["{", "3", '["a"]'])
def test_a_line_that_is_no_object_is_named(folder, line):
    refused(lambda: read_manifest(written(folder, line)), "line 1 of manifest.jsonl: ", "expected")


def test_a_line_that_stands_there_twice_is_refused(folder):
    refused(
        lambda: read_manifest(written(folder, RIGHT, RIGHT)),
        "line 2 of manifest.jsonl: It says the same as an earlier one",
    )


def test_a_manifest_of_nothing_and_none_at_all_are_refused(folder):
    refused(lambda: read_manifest(written(folder, "")), "Lines were expected in", "it has none")
    refused(lambda: read_manifest(folder / "gone.jsonl"), "was expected at", "gone.jsonl; it cannot be read")


def test_trials_are_the_same_whatever_the_order_of_the_rows(folder):
    lines = [{**RIGHT, "reference": name, "seed": seed} for name in ("a.png", "b.png") for seed in range(9)]
    contenders = [Contender("joint", {ANY_TASK: "joint"}), Contender("fixed", {ANY_TASK: "joint"}, fixed=True)]
    made = trials(read_manifest(written(folder, *lines)), contenders, SETTINGS)
    random.Random(0).shuffle(lines)
    again = trials(read_manifest(written(folder, *lines)), contenders, SETTINGS)
    asked = [[(one.key, one.contender.label, one.instruction) for one in trials] for trials in (made, again)]
    assert asked[0] == asked[1]
    assert {one.instruction for one in made if one.contender.fixed} == {"use the style"}
    assert len({one.instruction for one in made if not one.contender.fixed}) > 4


def test_what_is_asked_twice_is_one_image_and_what_differs_is_another(folder):
    manifest = read_manifest(written(folder, {**RIGHT, "instruction": "use the hat"}, {**RIGHT, "reference": "b.png"}))
    twice = [Contender("joint", {ANY_TASK: "x"}), Contender("fixed", {ANY_TASK: "x"}, fixed=True)]
    hat = [one.key for one in trials(manifest, twice, SETTINGS) if one.instruction == "use the hat"]
    assert len(hat) == 2 and len(set(hat)) == 1
    others = [*SETTINGS, Setting(0.6, "auto"), Setting(0.8, "simple")]
    made = trials(manifest, [Contender("joint", {ANY_TASK: "x"}), Contender("other", {ANY_TASK: "y"})], others)
    assert len({one.key for one in made}) == len(made) == 12


def test_a_wording_is_drawn_from_all_and_is_the_same_each_time(folder):
    rows = read_manifest(written(folder, *({**RIGHT, "seed": seed} for seed in range(200)))).rows
    assert [drawn(row) for row in rows] == [drawn(row) for row in rows]
    assert {drawn(row) for row in rows} == set(phrasings(KNOWN["style"]))


def test_one_adapter_a_task_is_tried_on_its_own_task_and_no_adapter_once(folder):
    manifest = read_manifest(written(folder, RIGHT, {**RIGHT, "task": "pose"}, {**RIGHT, "task": "face"}))
    contenders = [Contender("each", {"style": "s", "pose": "p"}), Contender("none", {ANY_TASK: "s"}, bare=True)]
    made = trials(manifest, contenders, [Setting(0.5, "auto"), Setting(1.0, "auto")])
    found = sorted((one.contender.label, one.row.task, one.file, one.setting.weight) for one in made)
    assert found == [
        *(("each", task, task[0], weight) for task in ("pose", "style") for weight in (0.5, 1.0)),
        *(("none", task, "s", 0.0) for task in ("face", "pose", "style")),
    ]


def dreambench(folder: Path) -> Path:
    """Two of DreamBench++'s categories, laid out as its data.zip."""
    for category, number, subject in (("animal", "00", "Kitten"), ("style", "01", "ink drawing")):
        picture(folder / "images" / category / f"{number}.jpg")
        told = folder / "captions" / category / f"{number}.txt"
        told.parent.mkdir(parents=True)
        told.write_text("\n".join([subject, *(f"{subject} {n}" for n in range(9)), ""]))
    return folder


def test_dreambench_is_nine_prompts_for_each_reference(tmp_path):
    rows = read_dreambench(dreambench(tmp_path)).rows
    assert len(rows) == 18
    first, last = rows[0], rows[-1]
    assert (first.reference, first.task, first.wordings) == ("images/animal/00.jpg", "object", ("use the kitten",))
    assert (first.prompt, first.caption, first.seed) == ("Kitten 0", "Kitten", 42)
    assert (last.task, last.prompt, last.wordings[0]) == ("style", "ink drawing 8", "use the style")


def test_dreambench_without_its_parts_is_refused_with_every_wrong_file(tmp_path):
    refused(lambda: read_dreambench(tmp_path), "DreamBench++'s data was expected", "data.zip")
    dreambench(tmp_path)
    picture(tmp_path / "images" / "animal" / "07.jpg")
    (tmp_path / "captions" / "style" / "08.txt").write_text("x\ny")
    (tmp_path / "captions" / "style" / "01.txt").write_text("x\n")
    refused(
        lambda: read_dreambench(tmp_path),
        "3 wrong",
        "animal/07: There is no caption file",
        "style/01: A subject and prompts were expected, in a folder object, animal, human, style",
        "style/08: There is a caption file and no picture",
        "Name the folder that its data.zip was unpacked into",
    )


def test_a_folder_of_people_is_every_picture_prompt_and_seed(tmp_path):
    for name in ("ann/1.png", "ann/2.png", "bob/1.png"):
        picture(tmp_path / name, "blue")
    rows = read_identities(tmp_path, ["a photo of a person", "a person at sea"], seeds=2).rows
    assert len(rows) == 12
    assert {(row.identity, row.task, row.caption) for row in rows} == {("ann", "face", ""), ("bob", "face", "")}
    assert {row.seed for row in rows} == {0, 1}
    refused(lambda: read_identities(tmp_path / "ann", ["x"], 1), "a folder of pictures for each person was expected")
