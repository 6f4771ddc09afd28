"""What adapters are tried on, and the shares that are made of what is seen."""

from __future__ import annotations

import random

import pytest
from small_world.conditions import HELD_OUT, PLAINLY, conditions, outcome, unlike
from small_world.drawing import draw
from small_world.phrasings import PLAIN, held_out, trained
from small_world.reader import read
from small_world.scenes import ATTRIBUTES, TASKS, is_held_out, random_scene, taken
from small_world.table import COLUMNS, line, row, table
from small_world.transfer import Setting

each_task = pytest.mark.parametrize("task", TASKS)


def seen(scenes):
    drawn = random.Random(1)
    return [read(draw(scene, drawn)) for scene in scenes]


@each_task
def test_references_are_held_out_and_prompts_differ_from_them_in_everything(task):
    for one in conditions(task, 40):
        assert is_held_out(one.reference)
        assert all(one.reference.attributes[name] != one.prompt.attributes[name] for name in ATTRIBUTES)


@each_task
def test_instructions_are_ones_that_were_never_learnt(task):
    said = {one.instruction for one in conditions(task, 60)}
    assert said == set(held_out(task))
    assert not said & set(trained(task))


@each_task
def test_the_same_conditions_come_again_with_another_phrasing_too(task):
    first, plain = conditions(task, 5, HELD_OUT), conditions(task, 5, PLAINLY)
    assert [(c.reference, c.prompt, c.text) for c in first] == [(c.reference, c.prompt, c.text) for c in plain]
    assert {c.instruction for c in plain} == {PLAIN[task]}
    assert (first[3].picture == plain[3].picture).all()


def test_a_prompt_tells_all_but_what_is_asked_for():
    for one in conditions("colour", 30):
        assert one.prompt.attributes["colour"] not in one.text.split()
        assert one.reference.attributes["colour"] not in one.text.split()
    assert {one.text for one in conditions("everything", 30)} == {"a thing", "a shape", "a figure"}


def test_a_contradicting_prompt_tells_all_of_its_scene_and_nothing_else_changes():
    for plain, against in zip(conditions("colour", 20), conditions("colour", 20, contradicting=True), strict=True):
        assert (plain.reference, plain.prompt, plain.instruction) == (
            against.reference,
            against.prompt,
            against.instruction,
        )
        assert against.prompt.attributes["colour"] in against.text


def test_a_scene_unlike_another_has_nothing_of_it():
    drawn = random.Random(3)
    for _ in range(50):
        scene = random_scene(drawn)
        other = unlike(scene, drawn)
        assert not set(scene.attributes.items()) & set(other.attributes.items())


@each_task
def test_pictures_as_they_should_be_are_all_right_and_leak_nothing(task):
    tried = conditions(task, 30)
    found = outcome(tried, seen([taken(task, one.reference, one.prompt) for one in tried]))
    assert found.asked >= 0.95
    assert found.others is None or (found.others >= 0.95 and found.leak <= 0.05)


def test_copies_of_the_reference_leak_everything():
    tried = conditions("style", 30)
    found = outcome(tried, seen([one.reference for one in tried]))
    assert (found.asked >= 0.95, found.others <= 0.05, found.leak >= 0.95) == (True, True, True)


def test_pictures_of_the_prompt_alone_follow_nothing():
    tried = conditions("object", 30)
    found = outcome(tried, seen([one.prompt for one in tried]))
    assert found.asked <= 0.05
    assert found.others >= 0.95


def test_the_table_has_a_cell_for_every_column():
    tried = conditions("everything", 3)
    found = row("joint", str(Setting(0.8)), outcome(tried, seen([one.reference for one in tried])))
    assert found["setting"] == "simple, weight 0.8"
    for text in table([found]).splitlines():
        assert text.count("|") == len(COLUMNS) + 1
    assert line(found).startswith("| joint | simple, weight 0.8 | 3 | everything | 1.000 |  |  |")
