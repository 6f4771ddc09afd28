"""Workflow files against the live schema: the shipped ones, and those that earlier versions saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from ipadapter_instruct.commands.servers.api_prompt import CONTROL, to_prompt, widget_slots
from shipped import blueprints
from shipped.__main__ import file_text, path_of
from shipped.recipes import RECIPES
from support.newer_nodes import newer_nodes

SAVED = sorted((REPO_ROOT / "tests" / "data" / "saved-workflows").glob("*/*.json"))
OURS = "IPAdapterInstruct"


def test_every_shipped_file_is_what_its_recipe_gives_with_the_nodes_as_they_are(object_info):
    """When this fails after a change of a recipe or a node: python -m shipped, and take the pictures again."""
    found = {name: path_of(name).read_text(encoding="utf-8") for name in (*RECIPES, *blueprints.TASKS)}
    known = [name for name, text in found.items() if newer_nodes(json.loads(text)).keys() <= object_info.keys()]
    assert len(known) > len(found) / 2
    assert [name for name in known if not alike(found[name], file_text(name, object_info))] == []


def alike(found: str, expected: str) -> bool:
    return found == expected or of_any_version(found) == of_any_version(expected)


def of_any_version(text: str) -> dict:
    """A workflow without what later versions of ComfyUI add to its own nodes: outputs that nothing is linked to."""
    workflow = json.loads(text)
    for node in workflow["nodes"]:
        if not node["type"].startswith(OURS):
            node["outputs"] = [output for output in node["outputs"] if output.get("links")]
    return workflow


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_that_an_earlier_version_saved_fits_the_nodes_as_they_are(path: Path, object_info):
    """Every value lands in the input that it was saved from, and no input has gone."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, object_info)
    ours = [node for node in workflow["nodes"] if node["type"].startswith(OURS)]
    assert ours
    for node in ours:
        inputs = prompt[str(node["id"])]["inputs"]
        names = [slot["name"] for slot in node["inputs"] if slot.get("widget")]
        known = object_info[node["type"]]["input"]
        places = [place for place in widget_slots(object_info[node["type"]]) if place in (*names, CONTROL)]
        kept = dict(zip(places, node["widgets_values"], strict=True))
        assert {name: inputs[name] for name in names} == {name: kept[name] for name in names}
        assert {name for name in known["required"] if name in names} <= inputs.keys()
        assert {slot["name"] for slot in node["inputs"]} <= known["required"].keys() | known.get("optional", {}).keys()


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_outputs_of_a_saved_file_are_where_they_were(path: Path, object_info):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"].startswith(OURS):
            saved = [(output["name"], output["type"]) for output in node["outputs"]]
            now = object_info[node["type"]]
            assert saved == list(zip(now["output_name"], now["output"], strict=True))[: len(saved)]
