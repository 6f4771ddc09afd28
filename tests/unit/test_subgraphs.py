"""Subgraphs in saved workflows: ids of their nodes as on the page, their links, and values of promoted widgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from ipadapter_instruct.commands.servers.graph import WorkflowError

OBJECT_INFO = json.loads((Path(__file__).parents[1] / "data/object_info-0.3.75.json").read_text(encoding="utf-8"))
SCALE = "scale-a-picture"
SCALE_WIDGETS = ["lanczos", 64, 64, "disabled"]


def inner_link(number: int, start: int, output: int, end: int, slot: int) -> dict:
    return {"id": number, "origin_id": start, "origin_slot": output, "target_id": end, "target_slot": slot}


def definition(**changes) -> dict:
    """A subgraph that scales a picture; its inputs are the picture and, promoted, the width."""
    inputs = [{"name": "image", "type": "IMAGE", "link": 1}, {"name": "width", "type": "INT", "link": 2}]
    inputs[1]["widget"] = {"name": "width"}
    scale = {"id": 5, "type": "ImageScale", "mode": 0, "widgets_values": SCALE_WIDGETS, "inputs": inputs}
    scale |= {"title": "Target", "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [3]}]}
    return {
        "id": SCALE,
        "nodes": [scale],
        "links": [inner_link(1, -10, 0, 5, 0), inner_link(2, -10, 1, 5, 1), inner_link(3, 5, 0, -20, 0)],
        "inputs": [{"name": "image", "linkIds": [1]}, {"name": "width", "linkIds": [2]}],
        "outputs": [{"name": "IMAGE", "linkIds": [3]}],
        **changes,
    }


def load(**more) -> dict:
    return {"id": 1, "type": "LoadImage", "mode": 0, "widgets_values": ["a.png", "image"], "inputs": [], **more}


def instance(number: int, feeds: int | None, values: list, kind: str = SCALE, **more) -> dict:
    inputs = [{"name": "image", "type": "IMAGE", "link": feeds}]
    return {
        "id": number,
        "type": kind,
        "mode": 0,
        "widgets_values": values,
        "inputs": inputs,
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        **more,
    }


def save(feeds: int) -> dict:
    inputs = [{"name": "images", "type": "IMAGE", "link": feeds}]
    return {"id": 9, "type": "SaveImage", "mode": 0, "widgets_values": ["x"], "inputs": inputs}


def prompt_of(*nodes: dict, links: list[list], definitions: list[dict] | None = None) -> dict:
    subgraphs = {"subgraphs": [definition()] if definitions is None else definitions}
    return to_prompt({"nodes": list(nodes), "links": links, "version": 0.4, "definitions": subgraphs}, OBJECT_INFO)


LINKS = [[1, 1, 0, 7, 0, "IMAGE"], [2, 7, 0, 9, 0, "IMAGE"]]


def test_the_nodes_of_a_subgraph_are_numbered_after_it_and_linked_through_it():
    prompt = prompt_of(load(), instance(7, 1, [32]), save(2), links=LINKS)
    assert set(prompt) == {"1", "7:5", "9"}
    assert prompt["7:5"]["inputs"]["image"] == ["1", 0]
    assert prompt["7:5"]["_meta"] == {"title": "Target"}
    assert prompt["9"]["inputs"]["images"] == ["7:5", 0]


def test_a_promoted_widget_has_the_value_of_the_node_that_stands_for_the_subgraph():
    one, other = instance(7, 1, [32]), instance(8, 3, [16])
    prompt = prompt_of(load(), one, other, save(2), links=[*LINKS, [3, 1, 0, 8, 0, "IMAGE"]])
    assert [prompt[key]["inputs"]["width"] for key in ("7:5", "8:5")] == [32, 16]
    assert prompt["7:5"]["inputs"]["height"] == 64


def test_a_promoted_widget_without_a_value_has_that_of_its_own_node():
    assert prompt_of(load(), instance(7, 1, []), save(2), links=LINKS)["7:5"]["inputs"]["width"] == 64


def test_a_link_to_a_promoted_widget_counts():
    primitive = {"id": 4, "type": "PrimitiveNode", "mode": 0, "widgets_values": [512, "fixed"], "inputs": []}
    linked = instance(7, 1, [32])
    linked["inputs"].append({"name": "width", "type": "INT", "link": 5, "widget": {"name": "width"}})
    prompt = prompt_of(load(), primitive, linked, save(2), links=[*LINKS, [5, 4, 0, 7, 1, "INT"]])
    assert prompt["7:5"]["inputs"]["width"] == 512


def test_a_subgraph_in_a_subgraph_is_followed_both_ways():
    middle = instance(6, 1, [], kind=SCALE)
    middle["inputs"].append({"name": "width", "type": "INT", "link": 2, "widget": {"name": "width"}})
    outer = definition(id="outer", nodes=[middle])
    outer["links"] = [inner_link(1, -10, 0, 6, 0), inner_link(2, -10, 1, 6, 1), inner_link(3, 6, 0, -20, 0)]
    nodes = load(), instance(7, 1, [48], kind="outer"), save(2)
    prompt = prompt_of(*nodes, links=LINKS, definitions=[definition(), outer])
    assert prompt["7:6:5"]["inputs"] | {"height": 0} == {
        "image": ["1", 0],
        "upscale_method": "lanczos",
        "width": 48,
        "height": 0,
        "crop": "disabled",
    }
    assert prompt["9"]["inputs"]["images"] == ["7:6:5", 0]


def test_a_bypassed_subgraph_passes_its_input_on_and_a_muted_one_nothing():
    bypassed = prompt_of(load(), instance(7, 1, [32], mode=4), save(2), links=LINKS)
    assert set(bypassed) == {"1", "9"} and bypassed["9"]["inputs"]["images"] == ["1", 0]
    muted = prompt_of(load(), instance(7, 1, [32], mode=2), save(2), links=LINKS)
    assert set(muted) == {"1", "9"} and "images" not in muted["9"]["inputs"]


def test_a_subgraph_that_holds_itself_is_refused():
    itself = definition(nodes=[instance(5, 1, [])])
    with pytest.raises(WorkflowError, match="holds itself"):
        prompt_of(load(), instance(7, 1, [32]), save(2), links=LINKS, definitions=[itself])
