"""The table of `cli.py evaluate`: its lines, their order, and what Markdown says of them; and the sheet of samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ipadapter_instruct.commands.evaluate.manifest import Row
from ipadapter_instruct.commands.evaluate.plan import NO_ADAPTER, Contender, Setting, Trial
from ipadapter_instruct.commands.evaluate.scoring import Image, Scored, Scorers
from ipadapter_instruct.commands.evaluate.sheet import CELL, sheet
from ipadapter_instruct.commands.evaluate.table import Mean, as_json, as_markdown, lines_of
from PIL import Image as PillowImage

JOINT, BARE = Contender("joint", {"": "j"}), Contender(NO_ADAPTER, {"": "j"}, bare=True)
STRONG, WEAK, NONE = Setting(0.8, "simple"), Setting(0.4, "simple"), Setting(0.0, "simple")
LABELS = ["joint", NO_ADAPTER]


def trial(key: str, contender: Contender, setting: Setting, task: str = "style", reference: str = "a.png") -> Trial:
    row = Row("line 1", reference, task, ("use it",), f"a prompt of {reference}", 0, "a caption", "ann")
    return Trial(key, row, contender, setting, "j", "use it")


TRIALS = [
    trial("n1", BARE, NONE),
    trial("n2", BARE, NONE, reference="b.png"),
    trial("s1", JOINT, STRONG),
    trial("s2", JOINT, STRONG, reference="b.png"),
    trial("w1", JOINT, WEAK),
    trial("w2", JOINT, WEAK, reference="b.png"),
    trial("h1", JOINT, STRONG, "use the hat"),
    trial("e1", JOINT, STRONG, "everything"),
]


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Image]:
    """An image of a colour of its own for each trial, and two references."""
    found = {}
    for number, one in enumerate(TRIALS):
        path, reference = tmp_path / f"{one.key}.png", tmp_path / one.row.reference
        PillowImage.new("RGB", (64, 64), (10 * number, 0, 200)).save(path)
        PillowImage.new("RGB", (64, 32), (255, 200, 0)).save(reference)
        found[one.key] = Image(one.key, one.row, path, reference)
    return found


def scored(images: dict[str, Image], **values: dict[str, float]) -> Scored:
    return Scored(images, Scorers(), {name.replace("_", "-"): numbers for name, numbers in values.items()})


def every(value: float) -> dict[str, float]:
    return {one.key: value for one in TRIALS}


def test_known_tasks_stand_first_and_weights_from_low_to_high(images):
    lines = lines_of(TRIALS, scored(images), LABELS)
    assert [(line.task, line.adapter, line.weight, line.count) for line in lines] == [
        ("everything", "joint", 0.8, 1),
        ("style", "joint", 0.4, 2),
        ("style", "joint", 0.8, 2),
        ("style", NO_ADAPTER, 0.0, 2),
        ("use the hat", "joint", 0.8, 1),
    ]
    assert lines_of(TRIALS[::-1], scored(images), LABELS) == lines


def test_a_mean_is_over_the_images_that_have_the_score_and_says_how_many(images):
    found = scored(images, face={"s1": 0.25}, CLIP_I={"s1": 0.5, "s2": 0.7})
    line = next(line for line in lines_of(TRIALS, found, LABELS) if line.count == 2 and line.weight == 0.8)
    assert line.scores == {"CLIP-I": Mean(0.6, 0.5, 0.7, 2), "face": Mean(0.25, None, None, 1)}
    weak = next(line for line in lines_of(TRIALS, found, LABELS) if line.weight == 0.4)
    assert weak.scores["face"] == Mean(None, None, None, 0)
    assert "| joint | 0.4 | simple | 2 | n 0 | n 0 |" in as_markdown([weak], [])
    text = as_markdown([line], [])
    assert "| joint | 0.8 | simple | 2 | 0.6000 [0.5000, 0.7000] | 0.2500, n 1 |" in text


def test_the_judges_means_are_multiplied(images):
    lines = lines_of(TRIALS, scored(images, CP=every(0.5), PF=every(0.25)), LABELS)
    assert {line.scores["CP x PF"].mean for line in lines} == {0.125}


def test_fid_is_of_two_images_at_least_and_lpips_of_two_of_one_identity(images):
    asked: list[tuple] = []

    def fid(references, made):
        asked.append((len(references), len(made)))
        return 7.5

    scorers = Scorers(fid=fid, lpips=lambda one, other: 0.1 if one.name < other.name else 9.0)
    lines = {(line.task, line.weight): line for line in lines_of(TRIALS, Scored(images, scorers), LABELS)}
    assert lines["style", 0.8].scores == {"FID": Mean(7.5, None, None, 2), "LPIPS": Mean(0.1, None, None, 1)}
    assert lines["everything", 0.8].scores == {"LPIPS": Mean(None, None, None, 0)}
    assert set(asked) == {(2, 2)}


def test_markdown_marks_the_papers_scores_and_says_what_each_means(images):
    names = {"CLIP_I": every(0.1), "CLIP_T": every(0.2), "CLIP_P": every(0.3), "CLIP_S": every(0.4)}
    text = as_markdown(lines_of(TRIALS, scored(images, **names), LABELS), ["CLIP by a file."])
    heads = {part.split("\n")[0]: part for part in text.split("## ")[1:]}
    assert "CLIP-I | CLIP-T | CLIP-P\\* | CLIP-S\\* |" in heads["style"]
    assert "CLIP-I\\* | CLIP-T\\* | CLIP-P | CLIP-S |" in heads["everything"]
    assert "CLIP-I | CLIP-T | CLIP-P | CLIP-S |" in heads["use the hat"]
    assert f"| {NO_ADAPTER} |  |  | 2 |" in heads["style"]
    assert "- **CLIP-S**: cosine of image minus prompt, and reference minus caption; higher is better" in text
    assert text.endswith("CLIP by a file.\n")
    assert "DINO" not in text


def test_json_holds_every_number(images):
    lines = lines_of(TRIALS, scored(images, CLIP_I=every(1 / 3)), LABELS)
    read = json.loads(as_json(lines, {"failed": ["x"]}))
    assert read["failed"] == ["x"] and len(read["lines"]) == len(lines)
    assert read["lines"][1]["scores"]["CLIP-I"] == {"mean": 0.333333, "low": 0.333333, "high": 0.333333, "count": 2}


def test_the_sheet_shows_references_above_and_each_line_below(images):
    drawn = sheet(TRIALS, images, [JOINT, BARE])
    left = drawn.width - 4 * (CELL + drawn_gap(drawn))
    columns = [left + (CELL + drawn_gap(drawn)) * n + CELL // 2 for n in range(4)]
    rows = [row for row in range(drawn.height) if drawn.getpixel((columns[0], row)) == (255, 200, 0)]
    assert rows, "a reference"
    seen = {drawn.getpixel((x, y)) for x in columns for y in range(0, drawn.height, 8)}
    made = {(10 * number, 0, 200) for number in range(len(TRIALS))}
    assert made <= seen
    assert sheet(TRIALS[::-1], images, [JOINT, BARE]).tobytes() == drawn.tobytes()


def drawn_gap(drawn: PillowImage.Image) -> int:
    """The white between two cells, where only paper is below the sheet's last row."""
    return max(2, max(min(CELL, CELL) // 20, 12) // 4)


def test_an_image_that_could_not_be_made_leaves_a_white_cell(images):
    del images["s1"]
    drawn = sheet(TRIALS, images, [JOINT, BARE])
    assert (20, 0, 200) not in {colour for _, colour in drawn.getcolors(1 << 24)}
