"""Places of a workflow: titles of nodes that say where values go in, and where results come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ipadapter_instruct.commands.servers.graph import WorkflowError
from ipadapter_instruct.commands.servers.places import check_there, find_places

OBJECT_INFO = json.loads((Path(__file__).parents[1] / "data/object_info-0.3.75.json").read_text(encoding="utf-8"))
INPUTS = {"Reference": "picture", "Prompt": "text", "Seed": "seed", "Guidance": "cfg", "Width": "number"}
OUTPUTS = ("Target",)


def node(kind: str, title: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def found(**nodes):
    return find_places(nodes, OBJECT_INFO, INPUTS, OUTPUTS)


def test_a_title_leads_to_the_input_that_can_be_meant():
    places = found(
        load=node("LoadImage", "reference"),
        text=node("CLIPTextEncode", "Prompt"),
        sampler=node("KSampler", "Seed, Guidance"),
        latent=node("EmptyLatentImage", "Width"),
        save=node("SaveImage", "Target"),
        other=node("KSampler", "KSampler"),
    )
    assert places.inputs == {
        "Reference": (("load", "image"),),
        "Prompt": (("text", "text"),),
        "Seed": (("sampler", "seed"),),
        "Guidance": (("sampler", "cfg"),),
        "Width": (("latent", "width"),),
    }
    assert places.outputs == {"Target": "save"}


def test_a_value_goes_to_every_node_of_its_title_and_the_prompt_stays_as_it_was():
    prompt = {"a": node("KSampler", "Seed", seed=1), "b": node("KSampler", "Seed", seed=2)}
    places = find_places(prompt, OBJECT_INFO, INPUTS, OUTPUTS)
    made = places.filled(prompt, {"Seed": 7, "Prompt": "not needed"})
    assert [made[key]["inputs"]["seed"] for key in "ab"] == [7, 7]
    assert prompt["a"]["inputs"]["seed"] == 1


def test_every_title_on_a_node_without_such_an_input_is_named():
    with pytest.raises(WorkflowError, match=r'(?s)Node a \(SaveImage\) is .*"seed".*Node b \(KSampler\).*"prompt"'):
        found(a=node("SaveImage", "Seed"), b=node("KSampler", "Prompt"))


def test_two_results_of_one_name_are_refused():
    with pytest.raises(WorkflowError, match='Two nodes are titled "target", a and b'):
        found(a=node("SaveImage", "Target"), b=node("SaveImage", "target"))


def test_what_gives_no_result_is_no_output():
    assert found(a=node("KSampler", "Target")).outputs == {}


def test_every_missing_place_is_named_with_those_that_are_there():
    places = found(a=node("KSampler", "Seed"))
    with pytest.raises(WorkflowError, match=r"x\.json was .* titled Reference, Target; it has Seed"):
        check_there(places, ["Reference", "Seed"], ["Target"], "x.json")
    check_there(places, ["Seed"], [], "x.json")
