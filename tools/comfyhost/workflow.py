"""The prompt that ComfyUI's HTTP API takes, put together node by node, or made of a saved workflow.

The browser's page makes one when Run is pressed; here it is done from the server's /object_info alone, so
that a shipped workflow can be run headless exactly as it lies in its file.

Source: ComfyUI_frontend's src/utils/executionUtil.ts (graphToPrompt), as of 1.32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from comfyhost.places import ToolError

NEVER, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
VIRTUAL = (*NOTES, "Reroute", "PrimitiveNode")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEEDS = ("seed", "noise_seed")
CONTROL = "(control after generate)"
CONTROL_FILTER = "(control filter)"
UPLOAD_BUTTON = "(upload button)"
UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")


class ApiPrompt(dict[str, dict]):
    """Nodes by their ids: {id: {class_type, inputs}}. Only `add` and `out` change it.

    Where a node is spoken of by its type, the prompt has one of that type.
    """

    def add(self, kind: str, **inputs) -> str:
        """Add a node and return its id; they count up. Inputs that are None are left out."""
        node_id = str(len(self) + 1)
        given = {name: value for name, value in inputs.items() if value is not None}
        self[node_id] = {"class_type": kind, "inputs": given}
        return node_id

    def out(self, kind: str, slot: int = 0, **inputs) -> list:
        """Add a node and return a link from one of its outputs."""
        return [self.add(kind, **inputs), slot]

    def id(self, kind: str) -> str:
        (found,) = (node_id for node_id, node in self.items() if node["class_type"] == kind)
        return found

    def output(self, kind: str, slot: int = 0) -> list:
        return [self.id(kind), slot]

    def inputs(self, kind: str) -> dict:
        return dict(self[self.id(kind)]["inputs"])

    def changed(self, kind: str, **inputs) -> ApiPrompt:
        prompt = ApiPrompt(copy.deepcopy(dict(self)))
        prompt[prompt.id(kind)]["inputs"].update(inputs)
        return prompt

    def with_node(self, node_id: str, kind: str, **inputs) -> ApiPrompt:
        return ApiPrompt({**copy.deepcopy(dict(self)), node_id: {"class_type": kind, "inputs": inputs}})


class WorkflowError(ToolError):
    """The workflow cannot be turned into a prompt for this server."""


def to_prompt(workflow: dict, object_info: Mapping[str, dict]) -> ApiPrompt:
    """Return the API prompt of a saved workflow of version 0.4, whose nodes have their titles in `_meta`, too.

    Raises WorkflowError for what the server does not know, a wrong number of widget values, subgraphs and other
    kinds of files. Whether a value is allowed is for the server to say.
    """
    check_kind(workflow)
    nodes, links = {node["id"]: node for node in workflow["nodes"]}, {link[0]: link for link in workflow["links"]}
    prompt = ApiPrompt()
    for node in workflow["nodes"]:
        if not is_executed(node):
            continue
        known = definition(node, object_info)
        inputs = widget_inputs(node, known)
        for slot in node.get("inputs") or []:
            for source in sources(slot, nodes, links):
                inputs[slot["name"]] = source
        title = node.get("title") or known.get("display_name") or node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


def check_kind(workflow: dict) -> None:
    if not isinstance(workflow.get("nodes"), list) or not isinstance(workflow.get("links"), list):
        raise WorkflowError(
            "A saved workflow with nodes and links was expected; this is something else (an API prompt?). "
            "Save it in ComfyUI with Workflow > Save, not Export (API)."
        )
    if any(not isinstance(link, list) for link in workflow["links"]):
        raise WorkflowError(
            f"A workflow of version 0.4 was expected, with links as lists; this one says version "
            f"{workflow.get('version')} and has them otherwise. Open it in ComfyUI and save it again."
        )
    subgraphs = {subgraph["id"] for subgraph in (workflow.get("definitions") or {}).get("subgraphs", [])}
    inside = [node for node in workflow["nodes"] if node["type"] in subgraphs]
    if inside:
        raise WorkflowError(
            f"{describe(inside[0])} is a subgraph, which is not understood here. "
            "Unpack it in ComfyUI (right click > Unpack Subgraph) and save the workflow again."
        )


def is_executed(node: dict) -> bool:
    return node["type"] not in VIRTUAL and node.get("mode", 0) not in (NEVER, BYPASSED)


def definition(node: dict, object_info: Mapping[str, dict]) -> dict:
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


def describe(node: dict) -> str:
    return f"Node {node['id']} ({node['type']})"


def widget_inputs(node: dict, known: dict) -> dict[str, Any]:
    values, slots = node.get("widgets_values") or [], widget_slots(known)
    if isinstance(values, dict):
        return {name: guarded(values[name]) for name in slots if name in values}
    if len(values) == len(slots) - 1 and slots[-1:] == [UPLOAD_BUTTON]:
        slots = slots[:-1]  # newer pages do not save the button
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
    slots = []
    for name, kind, options in (entry for entry in input_definitions(known) if is_widget(*entry[1:])):
        slots.append(name)
        if options.get("control_after_generate", kind == "INT" and name in SEEDS):
            slots += [CONTROL] if kind == "INT" else [CONTROL, CONTROL_FILTER]
        if any(options.get(upload) for upload in UPLOADS):
            slots.append(UPLOAD_BUTTON)
    return slots


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
    return kind in WIDGET_TYPES and not options.get("forceInput")


def guarded(value: Any) -> Any:
    """A list as a value must not look like a link: the API has a wrapping for it."""
    return {"__value__": value} if isinstance(value, list) else value


def sources(slot: dict, nodes: Mapping[int, dict], links: Mapping[int, list]) -> list:
    """Return what really feeds an input, [node id, output] or a value: back through reroutes and bypassed nodes.

    Nothing when it is muted or leads nowhere.
    """
    if slot.get("link") is None:
        return []
    _, start, output, *_ = links.get(slot["link"], (None, None, 0))
    if start not in nodes:
        raise WorkflowError(
            f"The workflow's link {slot['link']} starts nowhere: the file is damaged. "
            "Open it in ComfyUI, connect the input again and save it."
        )
    node, mode = nodes[start], nodes[start].get("mode", 0)
    if mode == NEVER or node["type"] in NOTES:
        return []
    if node["type"] == "PrimitiveNode":
        return [guarded(node["widgets_values"][0])]
    if node["type"] == "Reroute":
        return sources(node["inputs"][0], nodes, links)
    if mode != BYPASSED:
        return [[str(node["id"]), output]]
    # It passes on an input of the output's type, the one in the same place first.
    slots, kind = node.get("inputs") or [], node["outputs"][output]["type"]
    passed_on = (slot for slot in (*slots[output : output + 1], *slots) if slot["type"] == kind)
    return sources(next(passed_on, {}), nodes, links)
