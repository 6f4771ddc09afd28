"""The drawn world's table: its conditions, and how pictures become figures."""

import pytest
from drawn_world.scenes.drawing import draw
from drawn_world.scenes.judge import nearest_scene
from drawn_world.scenes.scene import ATTRIBUTES, HELD_OUT, TASKS, taken
from drawn_world.scenes.words import PLAIN, trained_wordings
from drawn_world.table import NOTHING, as_markdown, conditions, outcome, rows_of


@pytest.mark.parametrize("task", TASKS)
def test_conditions_differ_in_everything_and_tell_all_but_what_is_asked_for(task):
    for number, condition in enumerate(conditions(task, 20)):
        reference, prompt = condition.reference, condition.prompt
        assert all(getattr(reference, name) != getattr(prompt, name) for name in ATTRIBUTES)
        assert all((concept, reference.style) in HELD_OUT for concept in reference.concepts)
        assert len(taken(task, reference, prompt).concepts) == len(taken(task, reference, prompt).places)
        row = condition.row(number)
        assert row["instruction"][0] == PLAIN[task]
        assert not set(row["instruction"][1:]) & set(trained_wordings(task))
        assert (prompt.style in row["prompt"].split()) == ("style" not in TASKS[task])
        assert (row["prompt"] == NOTHING) == (task == "everything")


@pytest.mark.parametrize("task", TASKS)
def test_what_should_come_out_is_right_and_the_reference_itself_leaks(task):
    tried = conditions(task, 6)
    right = [nearest_scene(draw(taken(task, condition.reference, condition.prompt))) for condition in tried]
    found = outcome(tried, right)
    assert found["asked"] == 1.0
    if task != "everything":
        assert (found["others"], found["leak"]) == (1.0, 0.0)
        copied = outcome(tried, [condition.reference for condition in tried])
        assert (copied["asked"], copied["others"], copied["leak"]) == (1.0, 0.0, 1.0)


def test_the_table_has_a_line_for_each_adapter_and_setting():
    tried = [one for task in ("style", "colour") for one in conditions(task, 2)]
    lines = [
        {
            "adapter": adapter,
            "weight": 1.0,
            "guidance": "simple",
            "task": condition.task,
            "reference": condition.row(number)["reference"],
            "shows": taken(condition.task, condition.reference, condition.prompt),
            **{f"CLIP-{letter}": 0.5 for letter in "ITPS"},
        }
        for adapter in ("joint", "fixed")
        for number, condition in enumerate(tried)
    ]
    table = as_markdown(rows_of(lines, tried)).splitlines()
    assert len(table) == 4
    assert table[2] == "| joint, weight 1, simple | 1.00 / 1.00 / 0.00 |  | 1.00 / 1.00 / 0.00 |  |  |  |"
