"""The whole way from pictures to a table by the pack's commands in the drawn world, with few pictures and steps."""

import pytest
from drawn_world import whole_way
from drawn_world.whole_way import BEFORE, COLUMNS, SCORES
from PIL import Image

pytestmark = [pytest.mark.xdist_group("drawn world"), pytest.mark.long("each command has tests of its own")]

TASKS = ("style", "object")
FEW = ("--pictures", "3", "--prompts", "1", "--held-out", "1", "--steps", "2", "--task-steps", "1", "--tasks", *TASKS)


def test_pairs_training_evaluation_and_map_follow_one_another_to_a_table(tmp_path, capsys):
    assert whole_way.main([*FEW, "--output", str(tmp_path)]) == 0
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert head == f"| {' | '.join(COLUMNS)} |"
    cells = [dict(zip(COLUMNS, (cell.strip() for cell in row.split("|")[1:-1]), strict=True)) for row in rows]
    lines = ("joint", BEFORE, "one adapter a task", "fixed", "no adapter")
    expected = [("style", "its pairs", "2"), *(("style", line, "1") for line in lines)]
    expected += [("object", line, "1") for line in lines]
    assert [(row["task"], row["adapter"], row["images"]) for row in cells] == expected
    for row in cells:
        assert all(-1 <= float(row[score]) <= 2.5 for score in SCORES) if row["adapter"] != "its pairs" else True
        assert row["asked"] in ("0.00", "0.50", "1.00") and (row["leak"] == "") == (row["task"] == "object")
    assert Image.open(tmp_path / "map.png").size[1] == 900
    for name in ("joint", "fixed", *TASKS):
        assert (tmp_path / "models" / "ipadapter" / f"{name}.safetensors").is_file()
