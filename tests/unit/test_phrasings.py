"""The phrasings of the trained tasks: each names its own task and no other, and `auto` treats it as the plain one."""

import pytest
from ipadapter_instruct.models.families import FAMILIES
from ipadapter_instruct.models.guidance.tasks import KNOWN, TASKS, advise, describe_instruction, phrasing, phrasings

EVERY = [(task, text) for task in TASKS for text in phrasings(task)]
SEEDS = range(500)


def choice(family, text: str) -> tuple[str, float]:
    advice = advise(family, text)
    return advice.guidance, advice.weight_change


def test_every_task_has_wordings_and_nothing_else_has():
    assert all(task.wordings for task in TASKS) and list(KNOWN) == [task.name for task in TASKS]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_has_at_least_twenty_different_phrasings(task):
    assert len(set(phrasings(task))) == len(phrasings(task)) >= 20


def test_no_two_tasks_share_a_phrasing():
    texts = [text for _, text in EVERY]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("other", TASKS, ids=lambda task: task.name)
def test_a_phrasing_names_its_own_task_and_no_other(other):
    named = {text for _, text in EVERY if other.is_named_in(text)}
    assert named == set(phrasings(other))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_auto_chooses_for_every_phrasing_as_for_the_plain_instruction(family):
    others = [text for task, text in EVERY if choice(family, text) != choice(family, task.instruction)]
    assert others == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_phrasing_is_described_as_the_plain_instruction_is(family):
    others = [
        text
        for task, text in EVERY
        if describe_instruction(family, text) != describe_instruction(family, task.instruction)
    ]
    assert others == []


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_same_seed_draws_the_same_phrasing_and_all_seeds_draw_all_of_them(task):
    drawn = [phrasing(task, seed) for seed in SEEDS]
    assert drawn == [phrasing(task, seed) for seed in SEEDS]
    assert set(drawn) == set(phrasings(task))
