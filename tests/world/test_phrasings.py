"""Instructions of the small world's tasks."""

import random

import pytest
from ipadapter_instruct.models.guidance.tasks import TASKS as PACK_TASKS
from small_world.phrasings import PHRASINGS, PLAIN, held_out, random_phrasing, trained
from small_world.scenes import TASKS

KEYWORDS = {task.name: task.keywords for task in PACK_TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_many_phrasings_and_no_two_are_alike(task):
    assert len(set(PHRASINGS[task])) == len(PHRASINGS[task]) > 20
    assert len(trained(task)) >= 20


@pytest.mark.parametrize("task", TASKS)
def test_a_phrasing_names_its_task_as_the_pack_sees_it_and_no_other(task):
    for phrasing in PHRASINGS[task]:
        named = {name for name, keywords in KEYWORDS.items() if any(word in phrasing.lower() for word in keywords)}
        assert named == {task}, phrasing


@pytest.mark.parametrize("task", TASKS)
def test_held_out_phrasings_are_never_drawn_for_training(task):
    drawn = {random_phrasing(task, random.Random(seed)) for seed in range(500)}
    assert drawn == set(trained(task))
    assert not drawn & set(held_out(task))
    assert len(held_out(task)) >= 4


@pytest.mark.parametrize("task", TASKS)
def test_the_plain_instruction_is_one_of_the_trained_ones(task):
    assert PLAIN[task] in trained(task)


def test_every_task_of_the_world_has_a_name_that_the_pack_knows():
    assert set(TASKS) <= set(KEYWORDS)
