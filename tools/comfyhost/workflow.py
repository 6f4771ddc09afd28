"""A saved workflow as the prompt that ComfyUI's HTTP API takes.

The browser's page does this when one presses Run; here it is done from the server's /object_info alone, so
that a shipped workflow can be run headless exactly as it lies in its file. Saved workflows of version 0.4
without subgraphs are understood.

Source: ComfyUI_frontend's src/utils/executionUtil.ts (graphToPrompt), as of 1.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfyhost.api_prompt import ApiPrompt
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


class WorkflowError(ToolError):
    """The workflow cannot be turned into a prompt for this server."""


def to_prompt(workflow: dict, object_info: Mapping[str, dict]) -> ApiPrompt:
    """Return the API prompt of a saved workflow, whose nodes have their titles in `_meta`, too.

    `object_info` is what the server's /object_info gives. Raises WorkflowError for what the server does not
    know, a wrong number of widget values, subgraphs and other kinds of files. Whether a value is allowed is
    for the server to say.
    """
    check_kind(workflow)
    links = Links(workflow)
    live = [node for node in workflow["nodes"] if is_executed(node)]
    return ApiPrompt({str(node["id"]): prompt_entry(node, links, definition(node, object_info)) for node in live})


def check_kind(workflow: dict) -> None:
    """Refuse files that are no saved workflow of version 0.4, and subgraphs."""
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
    """Return what the server says about the node's type."""
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


def prompt_entry(node: dict, links: Links, known: dict) -> dict:
    """One node of the prompt: its widgets' values, overridden by what its inputs are linked to."""
    inputs = widget_inputs(node, known)
    for slot in node.get("inputs") or []:
        for source in links.sources(slot):
            inputs[slot["name"]] = source
    title = node.get("title") or known.get("display_name") or node["type"]
    return {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}


def widget_inputs(node: dict, known: dict) -> dict[str, Any]:
    """The values of the node's widgets by input name."""
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return {name: guarded(values[name]) for name in widget_names(known) if name in values}
    slots = widget_slots(known)
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
    names = set(widget_names(known))
    return {name: guarded(value) for name, value in zip(slots, values, strict=True) if name in names}


def widget_slots(known: dict) -> list[str]:
    """Return what each place of widgets_values is for: input names, and the page's own additions in brackets."""
    slots = []
    for name, kind, options in input_definitions(known):
        if not is_widget(kind, options):
            continue
        slots.append(name)
        if options.get("control_after_generate", kind == "INT" and name in SEEDS):
            slots += [CONTROL] if kind == "INT" else [CONTROL, CONTROL_FILTER]
        if any(options.get(upload) for upload in UPLOADS):
            slots.append(UPLOAD_BUTTON)
    return slots


def widget_names(known: dict) -> list[str]:
    return [name for name, kind, options in input_definitions(known) if is_widget(kind, options)]


def input_definitions(known: dict) -> list[tuple[str, str, dict]]:
    """Name, type and options of every input, in the order of the page; a list of choices counts as COMBO."""
    found = []
    for group in ("required", "optional"):
        definitions = known["input"].get(group, {})
        for name in known.get("input_order", {}).get(group, definitions):
            kind, *rest = definitions[name]
            found.append((name, "COMBO" if isinstance(kind, list) else kind, rest[0] if rest else {}))
    return found


def is_widget(kind: str, options: dict) -> bool:
    return kind in WIDGET_TYPES and not options.get("forceInput")


def guarded(value: Any) -> Any:
    """A list as a value must not look like a link: the API has a wrapping for it."""
    return {"__value__": value} if isinstance(value, list) else value


class Links:
    """Follows links back through reroutes, primitives and bypassed nodes to what really feeds an input."""

    def __init__(self, workflow: dict):
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.by_id = {link[0]: link for link in workflow["links"]}

    def sources(self, slot: dict) -> list:
        """Return what feeds an input, [node id, output] or a value; nothing when it is muted or leads nowhere."""
        if slot.get("link") is None:
            return []
        node, output = self.origin(slot["link"])
        mode = node.get("mode", 0)
        if mode == NEVER or node["type"] in NOTES:
            return []
        if node["type"] == "PrimitiveNode":
            return [guarded(node["widgets_values"][0])]
        if node["type"] == "Reroute":
            return self.sources(node["inputs"][0])
        if mode == BYPASSED:
            return self.sources(passed_on(node, output))
        return [[str(node["id"]), output]]

    def origin(self, link_id: int) -> tuple[dict, int]:
        """The node and output that a link starts from."""
        link = self.by_id.get(link_id)
        if link is None or link[1] not in self.nodes:
            raise WorkflowError(
                f"The workflow's link {link_id} starts nowhere: the file is damaged. "
                "Open it in ComfyUI, connect the input again and save it."
            )
        return self.nodes[link[1]], link[2]


def passed_on(node: dict, output: int) -> dict:
    """Return the input that a bypassed node passes on: one of the output's type, the one in the same place first."""
    slots = node.get("inputs") or []
    kind = node["outputs"][output]["type"]
    return next((slot for slot in (*slots[output : output + 1], *slots) if slot["type"] == kind), {})
