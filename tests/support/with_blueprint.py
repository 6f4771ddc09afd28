"""The workflow instruct_sd15 with a blueprint in place of its three nodes, as the page saves it."""

from __future__ import annotations

import json

from comfyhost.places import REPO_ROOT

THREE = ("IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructApply")
ID = 100


def with_blueprint(name: str) -> dict:
    """The workflow; what was linked to a slot of one of the three is linked to the blueprint's of that name."""
    workflow, blueprint = read("workflows/instruct_sd15.json"), read(f"subgraphs/{name}.json")
    one = {**blueprint["nodes"][0], "id": ID}
    others = {node["id"]: node for node in workflow["nodes"] if node["type"] not in THREE}
    gone = {node["id"]: node for node in workflow["nodes"] if node["id"] not in others}
    links = []
    for number, origin, output, target, slot, kind in workflow["links"]:
        if origin in gone and target in gone:
            continue
        if target in gone:
            slot = place_of(gone[target]["inputs"][slot], one["inputs"])
            target, one["inputs"][slot]["link"] = ID, number
        if origin in gone:
            origin, output = ID, place_of(gone[origin]["outputs"][output], one["outputs"])
        links.append([number, origin, output, target, slot, kind])
    return {**workflow, "nodes": [*others.values(), one], "links": links, "definitions": blueprint["definitions"]}


def read(path: str) -> dict:
    return json.loads((REPO_ROOT / path).read_text(encoding="utf-8"))


def place_of(slot: dict, slots: list[dict]) -> int:
    """The place of the slot with the same name."""
    return next(place for place, one in enumerate(slots) if one["name"] == slot["name"])
