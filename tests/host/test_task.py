"""Instruct Task: what it hands out is what the table of tasks recommends."""

import pytest
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.guidance.tasks import TASKS, phrasing, recommended
from ipadapter_instruct.models.patching.apply import AUTO
from ipadapter_instruct.nodes.control.task import IPAdapterInstructTask
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from support import small_models
from support.pack_nodes import run_node


@pytest.fixture(scope="module", params=small_models.FAMILIES)
def adapter(request) -> AdapterWithEncoders:
    return AdapterWithEncoders(small_models.small_adapter(request.param), None)


def task_node(adapter, **changes):
    return run_node(
        IPAdapterInstructTask, adapter=adapter, **{"task": "style", "phrasing": "plain", "seed": 0, **changes}
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_tasks_instruction_and_recommended_settings_are_handed_out(adapter, task):
    best = recommended(adapter.adapter.family, task)
    found = task_node(adapter, task=task.name).args
    assert found == (task.instruction, best.weight, AUTO, best.instruct_guidance, best.image_guidance, best.cfg)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_random_phrasing_is_the_one_that_the_seed_draws(adapter, task):
    for seed in range(5):
        assert task_node(adapter, task=task.name, phrasing="random", seed=seed).args[0] == phrasing(task, seed)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_that_the_adapter_was_not_trained_on_is_said_to_be_so(adapter, task):
    family = adapter.adapter.family
    words = "trained on" if family in task.families else f"not one that {family.title}'s adapter was trained on"
    instruction, described = task_node(adapter, task=task.name).ui["text"]
    assert instruction == task.instruction
    assert described.startswith(f"instruction: {words}")


@pytest.mark.parametrize("changes", [{"task": "smell"}, {"phrasing": "loud"}])
def test_other_choices_are_refused(adapter, changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name} was expected to be one of .* it is '{value}'"):
        task_node(adapter, **changes)


def test_what_it_hands_out_has_the_types_of_applys_widgets():
    outputs = {one.display_name: one.io_type for one in IPAdapterInstructTask.GET_SCHEMA().outputs}
    inputs = {one.id: one.get_io_type() for one in IPAdapterInstructApply.GET_SCHEMA().inputs}
    names = ("weight", "guidance", "instruct_guidance", "image_guidance")
    assert {name: outputs[name] for name in names} == {name: inputs[name] for name in names}
