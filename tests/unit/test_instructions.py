"""`cli.py instructions`: wordings from files, nearest others, and the map, on embeddings whose answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from ipadapter_instruct.commands.instructions.neighbours import (
    nearest_others,
    neighbour_embedding,
    principal_components,
    share_right,
)
from ipadapter_instruct.commands.instructions.report import draw, lines_of
from ipadapter_instruct.commands.instructions.scatter import COLOURS, Legend, Mark, scatter
from ipadapter_instruct.commands.instructions.wordings import Wording, each_once, own_wordings, packs_wordings
from ipadapter_instruct.models.guidance.tasks import TASKS, phrasings
from support.refusals import refused
from torch import Tensor

# Two tasks at two ends of an arc, and one wording of the first that lies beside the second.
ANGLES = {"style": (0.0, 1.0, 2.0, 3.0), "pose": (90.0, 91.0, 92.0, 93.0)}
WORDINGS = [
    *(Wording(task, f"use {task} {number}") for task in ANGLES for number in range(4)),
    Wording("style", "stand alike", own=True),
]


def embeddings() -> Tensor:
    """Embeddings of several lengths; the last one's nearest is that at 93 degrees, whose own is at 92."""
    angles = torch.deg2rad(torch.tensor([*ANGLES["style"], *ANGLES["pose"], 97.0]))
    arc = torch.stack([angles.cos(), angles.sin(), 0.01 * angles], dim=1)
    return arc * torch.linspace(0.2, 5, len(WORDINGS))[:, None]


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_wording_that_lies_with_another_task_is_found_and_the_others_are_not():
    found = nearest_others(WORDINGS, embeddings())
    assert [one.wording.text for one in found if not one.is_with_its_task] == ["stand alike"]
    assert found[-1].nearest.task == "pose"
    assert share_right(found) == pytest.approx(8 / 9)
    assert all(one.nearest is not one.wording for one in found)


def test_nearest_is_by_the_angle_and_the_same_by_plain_arithmetic():
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(1)).tolist()

    def cosine(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    wordings = [Wording("style", str(n)) for n in range(50)]
    found = [int(one.nearest.text) for one in nearest_others(wordings, torch.tensor(rows))]
    expected = [max((m for m in range(50) if m != n), key=lambda m: cosine(rows[n], rows[m])) for n in range(50)]
    assert found == expected


def test_the_report_names_a_users_wording_first_and_says_where_it_lies():
    lines = lines_of(nearest_others(WORDINGS, embeddings()))
    assert lines[0] == "Nearest other wording of the same task: 88.9% of 9 wordings"
    assert lines[1:3] == ["  style   80.0% of 5", "  pose   100.0% of 4"]
    assert lines[3] == "With another task lie 1:"
    assert lines[4].startswith('  style (yours): "stand alike" lies with pose: "use pose ')
    assert len(lines) == 5


def test_principal_components_are_those_of_the_covariance_and_a_map_is_the_same_each_time():
    rows = embeddings().double()
    points, words = principal_components(rows)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    expected = (rows - rows.mean(0)) @ vectors.flip(1)[:, :2]
    assert torch.allclose(points.abs(), expected.abs(), atol=1e-9)
    assert all(column[column.abs().argmax()] > 0 for column in points.T)
    assert words == f"PCA, {float(values[-2:].sum() / values.sum()):.0%} of the variance"


def test_t_sne_keeps_tasks_together_and_draws_the_same_map_again():
    pytest.importorskip("sklearn")
    rows = torch.cat([embeddings()[:8] + 5 * number for number in range(3)])
    points, words = neighbour_embedding(rows)
    assert words == "t-SNE" and points.shape == (24, 2)
    assert torch.equal(points, neighbour_embedding(rows)[0])


def test_the_map_shows_each_task_in_its_colour_and_a_ring_around_what_lies_elsewhere():
    found = nearest_others(WORDINGS, embeddings())
    points, words = principal_components(embeddings())
    drawn = draw(found, points, words)
    assert drawn.size == (1240, 900)
    seen = {colour for _, colour in drawn.getcolors(1 << 24)}
    assert set(COLOURS[:2]) <= seen and COLOURS[2] not in seen
    assert list(drawn.getdata()) != list(draw(found[:-1], points[:-1], words).getdata())


def test_words_that_would_cover_other_words_are_left_out():
    legend = Legend("groups", {"a": "two"}, {}, "")
    close, far = torch.tensor([[0.0, 0.0], [0.01, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    both = [Mark("a", words="some words"), Mark("a", words="some words"), Mark("a")]
    one = [both[0], Mark("a"), Mark("a")]

    def same(points: Tensor) -> bool:
        return scatter(points, both, legend, "").tobytes() == scatter(points, one, legend, "").tobytes()

    assert same(close) and not same(far)


def test_the_packs_wordings_are_all_there_each_with_one_plain_one():
    found = packs_wordings()
    assert {(one.task, one.text) for one in found} == {(task.name, text) for task in TASKS for text in phrasings(task)}
    assert [one.task for one in found if one.plain] == [task.name for task in TASKS]


def test_a_users_wordings_are_read_from_json_lines_pairs_and_lists(tmp_path):
    lists = written(tmp_path / "own.json", {"hat": ["use the hat", " "], "style": ["its look"]})
    lines = [
        {"reference": "a.png", "target": "b.png", "caption": "x", "task": "style"},
        {"task": "hat", "instruction": ["wear it", "use that hat"], "prompt": "x"},
        {"instruction": "use the brush"},
    ]
    (tmp_path / "pairs").mkdir()
    written(tmp_path / "pairs" / "pairs.jsonl", "\n".join(map(json.dumps, lines)))
    found = own_wordings([lists, tmp_path / "pairs"])
    assert [(one.task, one.text) for one in found] == [
        ("hat", "use the hat"),
        ("style", "its look"),
        ("hat", "wear it"),
        ("hat", "use that hat"),
        ("use the brush", "use the brush"),
    ]
    assert all(one.own for one in found)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("own.json", "[", "was expected to be JSON such as"),
        ("own.json", {"hat": "use the hat"}, "a list of texts for each task"),
        ("own.json", [1], "a list of texts for each task"),
        ("own.json", {}, "it has none of its own"),
        ("own.jsonl", '{"task": "style"}', "it has none of its own"),
        ("own.jsonl", '{"task": "hat"}', "An instruction was expected, or one of the tasks"),
        ("own.jsonl", '{"task": "hat", "instruction": [3]}', "a text or a list of texts"),
        ("own.jsonl", "3", "A JSON object was expected"),
    ],
)
def test_wordings_that_cannot_be_read_are_refused(tmp_path, name, content, said):
    path = written(tmp_path / name, content)
    refused(lambda: own_wordings([path]), said)
    refused(lambda: own_wordings([tmp_path / "gone.json"]), "it is not there")


def test_a_wording_stands_once_for_each_task_and_a_users_own_for_the_packs():
    same = [
        Wording("style", "use the style"),
        Wording("style", "Use the style ", own=True),
        Wording("hat", "use the style"),
    ]
    assert each_once(same) == [same[1], same[2]]
