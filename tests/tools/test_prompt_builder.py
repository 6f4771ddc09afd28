"""The builder of prompts for the HTTP API."""

from __future__ import annotations

import copy

import pytest
from comfyhost.prompt_builder import ApiPrompt


@pytest.fixture
def prompt() -> ApiPrompt:
    made = ApiPrompt()
    made.add("Save", images=made.out("Load", 1, image="a.png", mask=None), prefix="x")
    return made


def test_nodes_are_numbered_and_linked_and_inputs_that_are_none_left_out(prompt):
    assert prompt == {
        "1": {"class_type": "Load", "inputs": {"image": "a.png"}},
        "2": {"class_type": "Save", "inputs": {"images": ["1", 1], "prefix": "x"}},
    }


def test_a_node_is_spoken_of_by_its_type_where_there_is_one_of_it(prompt):
    assert prompt.id("Save") == "2"
    assert prompt.output("Load") == ["1", 0]
    assert prompt.inputs("Load") == {"image": "a.png"}
    prompt.add("Load", image="b.png")
    with pytest.raises(ValueError, match="too many values"):
        prompt.id("Load")


def test_a_changed_prompt_leaves_the_one_it_comes_from_as_it_was(prompt):
    before = copy.deepcopy(prompt)
    changed = prompt.changed("Load", image="b.png")
    assert changed.inputs("Load") == {"image": "b.png"}
    more = prompt.with_node("3", "Show", images=prompt.output("Load")).with_node("1", "Make")
    assert set(more) == {"1", "2", "3"} and more["1"] == {"class_type": "Make", "inputs": {}}
    prompt.inputs("Load")["image"] = "c.png"
    assert prompt == before
