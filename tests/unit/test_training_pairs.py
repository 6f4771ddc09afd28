"""Pairs in folders and shards, their instructions, and what is said of lines that are none."""

from __future__ import annotations

import io
import json
import sys
import tarfile

import pytest
import torch
from ipadapter_instruct.models.guidance.tasks import TASKS, check_apart, in_other_words, instructions_of, phrasings
from ipadapter_instruct.models.training.pairs import Pair, by_task, read_pairs
from PIL import Image

STYLE = {"reference": "a.png", "target": "b.png", "caption": "a cat", "task": "style"}


def png(colour: tuple[int, int, int]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png((255, 0, 0)))
    (tmp_path / "b.png").write_bytes(png((0, 255, 0)))
    return tmp_path


def write(folder, *lines) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    (folder / "pairs.jsonl").write_text("\n".join(texts), encoding="utf-8")


def test_a_folder_of_pairs_is_read(folder):
    write(folder, STYLE, "", {**STYLE, "caption": "a dog"})
    first, second = read_pairs(folder)
    assert (first.caption, second.caption, first.task) == ("a cat", "a dog", "style")
    assert second.name == "line 3 of pairs.jsonl"
    assert first.reference().shape == (4, 6, 3)
    assert first.reference()[0, 0].tolist() == [1, 0, 0]
    assert first.target()[0, 0].tolist() == [0, 1, 0]
    assert first.instructions == phrasings(next(task for task in TASKS if task.name == "style"))


def test_an_own_instruction_names_its_own_task(folder):
    line = {key: value for key, value in STYLE.items() if key != "task"}
    write(folder, {**line, "instruction": "use the brush strokes"})
    (pair,) = read_pairs(folder)
    assert pair.task == "use the brush strokes"
    assert pair.instructions[:3] == ("use the brush strokes", "take the brush strokes", "keep the brush strokes")


def test_given_phrasings_are_taken_as_they_are(folder):
    write(folder, {**STYLE, "task": "strokes", "instruction": ["as painted", " use its strokes "]})
    (pair,) = read_pairs(folder)
    assert (pair.task, pair.instructions) == ("strokes", ("as painted", "use its strokes"))
    assert by_task([pair, pair]) == {"strokes": ("as painted", "use its strokes")}


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", "line 1 of pairs.jsonl was expected to be JSON"),
        ("[]", "^line 1 of pairs.jsonl was expected to name an image as reference; it has None"),
        (
            {**STYLE, "caption": None},
            "line 1 of pairs.jsonl was expected to be an object with a caption; it is .*'a.png'",
        ),
        ({**STYLE, "weight": 2}, r"it has \['weight'\]"),
        ({**STYLE, "reference": "c.png"}, "as reference; c.png is not there"),
        ({**STYLE, "target": 3}, "name an image as target; it has 3"),
        ({**STYLE, "instruction": 3}, "instruction was expected to be a text or a list of texts"),
        ({**STYLE, "task": None}, "to have a task or an instruction; it has none"),
        ({**STYLE, "task": "mood"}, "An instruction was expected for the task 'mood'"),
    ],
)
def test_a_line_that_is_no_pair_is_refused_by_its_number(folder, line, said):
    write(folder, line)
    with pytest.raises(ValueError, match=said):
        read_pairs(folder)


def test_a_place_without_pairs_is_refused(folder):
    with pytest.raises(ValueError, match=r"A folder with pairs.jsonl, or .tar shards, was expected"):
        read_pairs(folder)
    write(folder, "")
    with pytest.raises(ValueError, match="it holds none"):
        read_pairs(folder)


def write_shard(path, key: str, line: object = None, images=("reference", "target")) -> None:
    members = {f"{key}.{name}.png": png((255, 0, 0) if name == "reference" else (0, 255, 0)) for name in images}
    if line is not None:
        members[f"{key}.json"] = line if isinstance(line, bytes) else json.dumps(line).encode()
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))


IN_SHARD = {"caption": "a cat", "task": "style"}


def test_shards_hold_the_same_pairs_as_a_folder(folder):
    pytest.importorskip("webdataset")
    for number in range(12):
        write_shard(folder / f"pairs-{number:02}.tar", str(number), IN_SHARD)
    pairs = read_pairs(folder)
    assert [pair.name for pair in pairs] == [f"{n} of pairs-{n:02}.tar" for n in range(12)]
    assert (pairs[0].caption, pairs[0].task) == ("a cat", "style")
    assert pairs[0].reference()[0, 0].tolist() == [1, 0, 0]
    assert pairs[0].target()[0, 0].tolist() == [0, 1, 0]
    assert [pair.name for pair in read_pairs(folder / "pairs-03.tar")] == ["3 of pairs-03.tar"]


@pytest.mark.parametrize(
    "written, said",
    [
        ({"line": None}, "7 of pairs.tar was expected to be an object with a caption; it is None"),
        ({"line": b"{"}, "^7 of pairs.tar was expected to be JSON"),
        ({"line": IN_SHARD, "images": ["reference"]}, "7 of pairs.tar was expected to hold an image target.png"),
        ({"line": {**IN_SHARD, "task": "mood"}}, "7 of pairs.tar: An instruction was expected for the task 'mood'"),
    ],
)
def test_what_is_no_pair_in_a_shard_is_refused_by_its_key(folder, written, said):
    pytest.importorskip("webdataset")
    write_shard(folder / "pairs.tar", "7", **written)
    with pytest.raises(ValueError, match=said):
        read_pairs(folder)


def test_a_shard_without_pairs_is_refused(folder):
    pytest.importorskip("webdataset")
    tarfile.open(folder / "pairs.tar", "w").close()
    with pytest.raises(ValueError, match="Pairs were expected in .*pairs.tar; it holds none"):
        read_pairs(folder / "pairs.tar")


def test_a_file_of_another_name_is_no_shard(folder):
    write_shard(folder / "pairs.zip", "7", IN_SHARD)
    with pytest.raises(ValueError, match=r"A folder with pairs.jsonl, or .tar shards, was expected at .*pairs.zip"):
        read_pairs(folder / "pairs.zip")


def test_without_webdataset_shards_are_refused_with_what_to_install(folder, monkeypatch):
    write_shard(folder / "pairs.tar", "7", IN_SHARD)
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ValueError, match="pairs.tar is a webdataset shard.*Run: pip install webdataset"):
        read_pairs(folder)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_images_of_every_mode_are_read_as_rgb(folder, mode):
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(folder / "a.png")
    write(folder, {**STYLE, "caption": "a caf\u00e9"})
    (pair,) = read_pairs(folder)
    assert pair.reference().shape == (4, 6, 3)
    assert pair.reference().min() == 1
    assert pair.caption == "a caf\u00e9"


def test_pairs_of_one_task_have_their_phrasings_together():
    first, second = (
        Pair("", None, None, "", "mood", phrasing)
        for phrasing in (("the mood", "its mood"), ("as it feels", "the mood"))
    )
    other = Pair("", None, None, "", "style", ("the style",))
    assert by_task([first, other, second]) == {
        "mood": ("the mood", "its mood", "as it feels"),
        "style": ("the style",),
    }


def test_a_tasks_other_words_name_it_too():
    with pytest.raises(ValueError, match="'keep the facial features' names 'face'"):
        check_apart({"style": ["keep the facial features"], "face": ["use the face"]})


def test_an_instruction_that_names_another_task_is_refused():
    check_apart({"style": ["use the style"], "colour": ["use the color"]})
    with pytest.raises(
        ValueError, match="'style' was expected to name no other task; 'use the colour style' names 'colour'"
    ):
        check_apart({"style": ["use the colour style"], "colour": ["use the colour"]})
    with pytest.raises(ValueError, match="names 'strokes'"):
        check_apart({"style": ["use the Strokes"], "strokes": ["as painted"]})


def test_known_tasks_never_name_one_another():
    check_apart({task.name: instructions_of(task.name) for task in TASKS})


def test_other_words_keep_what_is_asked_for():
    assert in_other_words("as it is") == ("as it is",)
    words = in_other_words("take the mood")
    assert words[0] == "take the mood"
    assert len(words) == len(set(words)) == 8
    assert all("the mood" in text for text in words)


def test_pixels_survive_reading(folder):
    noise = torch.randint(256, (4, 6, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(folder / "a.png")
    write(folder, STYLE)
    assert torch.equal((read_pairs(folder)[0].reference() * 255).round().to(torch.uint8), noise)
