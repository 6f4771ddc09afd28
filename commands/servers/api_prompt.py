"""The prompt that ComfyUI's HTTP API takes, made of a workflow's file.

The browser's page makes one when Run is pressed; here it is done from the server's /object_info alone, so that a
workflow can be run headless exactly as it lies in its file.

Source: ComfyUI_frontend's src/utils/executionUtil.ts (graphToPrompt), as of 1.32.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .graph import WIDGET_KINDS, Graph, WorkflowError, describe, guarded

ObjectInfo = Mapping[str, dict]  # what a server says of its types of nodes
SEED_INPUTS = ("seed", "noise_seed")
CONTROL = "(control after generate)"
CONTROL_FILTER = "(control filter)"
UPLOAD_BUTTON = "(upload button)"
UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")


def read_workflow(path: Path) -> dict:
    """Return a workflow's file, saved or exported for the API. Raises WorkflowError for any other file."""
    try:
        workflow = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkflowError(f"A workflow's file was expected at {path}; there is none. Check its name.") from error
    except (OSError, ValueError) as error:
        raise WorkflowError(
            f"{path} was expected to be a workflow saved by ComfyUI; it is no JSON ({error})."
        ) from error
    if not is_api_prompt(workflow):
        check_kind(workflow)
    return workflow


def is_api_prompt(workflow: object) -> bool:
    """Return whether this was exported for the API: nodes by their ids."""
    nodes = list(workflow.values()) if isinstance(workflow, dict) else []
    return bool(nodes) and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
        for node in nodes
    )


def to_prompt(workflow: dict, object_info: ObjectInfo) -> dict[str, dict]:
    """Return the API prompt of a workflow: nodes by their ids, {id: {class_type, inputs, _meta: {title}}}.

    One that was exported for the API is copied. In a saved one, of version 0.4, nodes inside a subgraph get the ids
    that the page gives them, outer:inner. Raises WorkflowError for what the server does not know, a wrong number of
    widget values, and other kinds of files. Whether a value is allowed is for the server to say.
    """
    if is_api_prompt(workflow):
        for node_id, node in workflow.items():
            definition({"id": node_id, "type": node["class_type"]}, object_info)
        return copy.deepcopy(workflow)
    check_kind(workflow)
    prompt = {}
    for graph, node in Graph.of(workflow).executed():
        known = definition(node, object_info)
        inputs = widget_inputs(node, known)
        for slot in node.get("inputs") or []:
            for source in graph.sources(slot):
                inputs[slot["name"]] = source
        title = node.get("title") or known.get("display_name") or node["type"]
        prompt[graph.full_id(node)] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


def check_kind(workflow: Any) -> None:
    if not isinstance(workflow, dict) or not all(isinstance(workflow.get(name), list) for name in ("nodes", "links")):
        raise WorkflowError(
            "A workflow with nodes and links, or one exported for the API, was expected; this is something else. "
            "Save it in ComfyUI with Workflow > Save."
        )
    if any(not isinstance(link, list) for link in workflow["links"]):
        raise WorkflowError(
            f"A workflow of version 0.4 was expected, with links as lists; this one says version "
            f"{workflow.get('version')} and has them otherwise. Open it in ComfyUI and save it again."
        )


def definition(node: dict, object_info: ObjectInfo) -> dict:
    if node["type"] in object_info:
        return object_info[node["type"]]
    properties = node.get("properties", {})
    pack = properties.get("cnr_id") or properties.get("aux_id")
    remedy = f"It belongs to the node pack {pack}." if pack else "A node pack may be missing."
    if pack == "comfy-core":
        remedy = "It belongs to ComfyUI itself: a newer ComfyUI may be needed."
    raise WorkflowError(
        f"{describe(node)} is of a type this server does not know. {remedy} "
        "If it is installed, the server's log says why it did not load."
    )


def widget_inputs(node: dict, known: dict) -> dict[str, Any]:
    values, slots = node.get("widgets_values") or [], widget_slots(known)
    if isinstance(values, dict):
        return {name: guarded(values[name]) for name in slots if name in values}
    if len(values) == len(slots) - 1 and UPLOAD_BUTTON in slots:
        slots.remove(UPLOAD_BUTTON)  # newer pages do not save the button
    if set(slots[len(values) :]) <= known["input"].get("optional", {}).keys():
        slots = slots[: len(values)]  # saved before the node had them; left out, they have their defaults
    if len(values) != len(slots):
        raise WorkflowError(
            f"{describe(node)} has {len(values)} widget values, {len(slots)} were expected "
            f"({', '.join(slots) or 'none'}). The node has changed since the workflow was saved: open it in "
            "ComfyUI, check the node's settings and save it again."
        )
    return {name: guarded(value) for name, value in zip(slots, values, strict=True) if not name.startswith("(")}


def widget_slots(known: dict) -> list[str]:
    """Return what each place of widgets_values is for: input names, and the page's own additions in brackets."""
    slots, button_at, required = [], None, known["input"].get("required", {})
    for name, kind, options in (entry for entry in input_definitions(known) if is_widget(*entry[1:])):
        slots.append(name)
        if options.get("control_after_generate", kind == "INT" and name in SEED_INPUTS):
            slots += [CONTROL] if kind == "INT" else [CONTROL, CONTROL_FILTER]
        if any(options.get(upload) for upload in UPLOADS) or (button_at is not None and name in required):
            button_at = len(slots)  # the page adds the button behind all that is required
    return slots if button_at is None else [*slots[:button_at], UPLOAD_BUTTON, *slots[button_at:]]


def input_definitions(known: dict) -> list[tuple[str, str, dict]]:
    """Name, type and options of every input, in the order of the page; a list of choices is a COMBO's options."""
    found = []
    for group in ("required", "optional"):
        definitions = known["input"].get(group, {})
        for name in known.get("input_order", {}).get(group, definitions):
            kind, options = (*definitions[name], {})[:2]
            listed = isinstance(kind, list)
            found.append((name, "COMBO", {**options, "options": kind}) if listed else (name, kind, options))
    return found


def is_widget(kind: str, options: dict) -> bool:
    return kind in WIDGET_KINDS and not options.get("forceInput")
