"""The blueprints in subgraphs/: load, encode and apply in one node, which ComfyUI's page lists beside its own.

A file is a workflow of that one node, with the definition of what is inside.
"""

import uuid
from collections.abc import Mapping

from shipped.graph import NAMESPACE, saved_values
from shipped.notes import ADAPTERS, ENCODER
from shipped.parts import InstructWorkflow

TASKS = {f"{task.capitalize()} of a picture": task for task in ("style", "composition", "face")}
DESCRIPTION = (
    "Takes the {} of a picture. Connect a checkpoint's model and clip and the picture, and give KSampler what comes "
    "out. SDXL and SD3 have adapters of their own: choose them in adapter_name."
)
LOADER, ENCODE, APPLY = 1, 2, 3
WIDGETS = (LOADER, "adapter_name"), (ENCODE, "prompt"), (APPLY, "weight")
INPUTS = (APPLY, "model"), (ENCODE, "clip"), (ENCODE, "image"), *WIDGETS
OUTPUTS = (APPLY, "MODEL"), (ENCODE, "positive"), (ENCODE, "negative")
FROM, TO = -10, -20  # the page's numbers for where links come in and go out
BORDERS = {
    "inputNode": {"id": FROM, "bounding": [-180, 300, 140, 180]},
    "outputNode": {"id": TO, "bounding": [1360, 90, 120, 120]},
}
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def blueprint(name: str, object_info: Mapping[str, dict]) -> dict:
    """Return the content of a blueprint's file."""
    task, inside = TASKS[name], InstructWorkflow(name, object_info)
    loader = inside.load_adapter(ADAPTERS[inside.family.name], ENCODER)
    inside.apply(inside.encode(task, adapter=loader, image=None))
    inputs = [link(inside, "inputs", place, *given) for place, given in enumerate(INPUTS)]
    outputs = [link(inside, "outputs", place, *made) for place, made in enumerate(OUTPUTS)]
    number, kind = len(inside.nodes) + 1, str(uuid.uuid5(NAMESPACE, f"inside {name}"))
    values = {widget: inside.nodes[at - 1]["widgets_values_named"][widget] for at, widget in WIDGETS}
    node = {
        **{"id": number, "type": kind, "pos": [0, 0], "size": [340, 340], "flags": {}, "order": 0, "mode": 0},
        **{"title": name, "inputs": [slot for slot, _ in inputs], "outputs": [slot for slot, _ in outputs]},
        **{"properties": {}, **saved_values(values)},
    }
    definition = {
        **{"id": kind, "version": 1, "revision": 0, "name": name, "category": "IPAdapter-Instruct", "config": {}},
        "state": {"lastGroupId": 0, "lastNodeId": number, "lastLinkId": len(inside.links), "lastRerouteId": 0},
        **{**BORDERS, "inputs": [listed for _, listed in inputs], "outputs": [listed for _, listed in outputs]},
        **{"widgets": [], "nodes": inside.nodes, "groups": [], "extra": {}},
        "links": [dict(zip(LINK, one, strict=True)) for one in inside.links],
    }
    extra = {"BlueprintDescription": DESCRIPTION.format(task)}
    outside = {"last_node_id": number, "last_link_id": 0, "nodes": [node], "links": [], "extra": extra}
    return {**inside.saved(), **outside, "definitions": {"subgraphs": [definition]}}


def link(inside: InstructWorkflow, side: str, place: int, number: int, name: str) -> tuple[dict, dict]:
    """Link a node's slot with a place outside; return the slot that stands there, and how the definition lists it."""
    slots = inside.nodes[number - 1][side]
    at = next(at for at, slot in enumerate(slots) if slot["name"] == name)
    slot, new = slots[at], len(inside.links) + 1
    outer = {key: slot[key] for key in ("name", "type", "widget") if key in slot}
    listed = {"id": str(uuid.uuid5(NAMESPACE, f"{side} {name}")), "name": name, "type": slot["type"], "linkIds": [new]}
    if side == "inputs":
        slot["link"], outer["link"], ends = new, None, (FROM, place, number, at)
    else:
        slot["links"].append(new)
        outer["links"], ends = [], (number, at, TO, place)
    inside.links.append([new, *ends, slot["type"]])
    return outer, listed
