"""A workflow under construction: nodes placed and linked by names, written as ComfyUI's page saves them.

The page's form has what a prompt for the API has not, such as places, sizes, slots, groups and notes; comfyhost's
`api_prompt` builds the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfyhost.places import COMFYUI_VERSION, PACK_FOLDER
from comfyhost.workflow import CONTROL, UPLOAD_BUTTON, input_definitions, is_widget, widget_slots

OPTIONAL_SHAPE = 7
BESIDE_VALUES = {CONTROL: "fixed", UPLOAD_BUTTON: "image"}
NAMESPACE = uuid.UUID("6f1f1c0c-2a53-4d0f-9a6e-0c5b6c7d8e91")
GROUP_COLOUR, NOTE_COLOURS = "#3f789e", {"color": "#432", "bgcolor": "#653"}


@dataclass(frozen=True)
class Output:
    """The output of a node, from which a link starts."""

    node: int
    slot: int
    type: str


@dataclass(frozen=True)
class Node:
    """A node that was added; node["name"] is one of its outputs."""

    number: int
    outputs: Mapping[str, Output]

    def __getitem__(self, name: str) -> Output:
        return self.outputs[name]


@dataclass
class Workflow:
    """The nodes in the order in which data flows. `object_info`: what a server's /object_info says of every node."""

    name: str
    object_info: Mapping[str, dict]
    version: str
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)

    def add(
        self, kind: str, pos: Sequence[int], size: Sequence[int], title: str = "", models: Sequence[dict] = (), **inputs
    ) -> Node:
        """Add a node. `inputs`: an Output to link from, or a value; widgets not named here take their defaults."""
        known = self.object_info[kind]
        number = len(self.nodes) + 1
        slots = [self.slot(number, index, *entry, inputs) for index, entry in enumerate(self.slots_of(known))]
        unknown = inputs.keys() - {slot["name"] for slot in slots}
        if unknown:
            raise ValueError(f"{kind} has no inputs {', '.join(sorted(unknown))}")
        outputs = [
            {"name": name, "type": type_, "links": []}
            for name, type_ in zip(known["output_name"], known["output"], strict=True)
        ]
        self.nodes.append(
            {
                "id": number,
                "type": kind,
                "pos": list(pos),
                "size": list(size),
                "flags": {},
                "order": number - 1,
                "mode": 0,
                "inputs": slots,
                "outputs": outputs,
                **({"title": title} if title else {}),
                "properties": self.properties(kind, known, models),
                "widgets_values": values(known, inputs),
                **({"showAdvanced": True} if uses_advanced(known, inputs) else {}),
            }
        )
        return Node(number, {o["name"]: Output(number, slot, o["type"]) for slot, o in enumerate(outputs)})

    def slots_of(self, known: dict) -> list[tuple[str, str, bool, bool]]:
        """Return the inputs (name, type, is a widget, is optional), sockets first, as the page orders them."""
        optional = known["input"].get("optional", {})
        entries = [
            (name, kind, is_widget(kind, options), name in optional) for name, kind, options in input_definitions(known)
        ]
        return sorted(entries, key=lambda entry: entry[2])

    def slot(self, node: int, index: int, name: str, kind: str, widget: bool, optional: bool, inputs: dict) -> dict:
        """Return one input; a link is made when an Output is given for it."""
        slot: dict[str, Any] = {"name": name, "type": kind, "link": None}
        if optional:
            slot["shape"] = OPTIONAL_SHAPE
        if widget:
            slot["widget"] = {"name": name}
        source = inputs.get(name)
        if isinstance(source, Output):
            slot["link"] = len(self.links) + 1
            self.links.append([slot["link"], source.node, source.slot, node, index, source.type])
            self.nodes[source.node - 1]["outputs"][source.slot]["links"].append(slot["link"])
        return slot

    def properties(self, kind: str, known: dict, models: Sequence[dict]) -> dict:
        """Return what lets the page offer a missing file, and Manager a missing pack."""
        core = known["python_module"] == "nodes" or known["python_module"].startswith("comfy_extras")
        pack = ("comfy-core", COMFYUI_VERSION) if core else (PACK_FOLDER, self.version)
        found = {"cnr_id": pack[0], "ver": pack[1], "Node name for S&R": kind}
        return {**found, "models": list(models)} if models else found

    def note(self, text: str, pos: Sequence[int], size: Sequence[int], title: str = "What to try") -> None:
        """Add a note in Markdown."""
        number = len(self.nodes) + 1
        self.nodes.append(
            {
                "id": number,
                "type": "MarkdownNote",
                "pos": list(pos),
                "size": list(size),
                "flags": {},
                "order": number - 1,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "title": title,
                "properties": {},
                "widgets_values": [text],
                **NOTE_COLOURS,
            }
        )

    def group(self, title: str, left: int, top: int, width: int, height: int) -> None:
        """Add a coloured frame behind nodes."""
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, top, width, height],
                "color": GROUP_COLOUR,
                "font_size": 24,
                "flags": {},
            }
        )

    def move_right(self, by: int) -> None:
        """Move everything, so that what was placed left of the first column comes into view."""
        for node in self.nodes:
            node["pos"][0] += by
        for group in self.groups:
            group["bounding"][0] += by

    def saved(self) -> dict:
        """The file's content, version 0.4."""
        return {
            "id": str(uuid.uuid5(NAMESPACE, self.name)),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [40, 60]}},
            "version": 0.4,
        }


def uses_advanced(known: dict, inputs: Mapping[str, Any]) -> bool:
    """True when an input is used that the page would fold away."""
    return any(name in inputs and options.get("advanced") for name, _, options in input_definitions(known))


def values(known: dict, inputs: Mapping[str, Any]) -> list:
    """A node's widget values in the page's order; below a link lies what the widget shows by itself."""
    found = {**BESIDE_VALUES, **{name: value for name, value in inputs.items() if not isinstance(value, Output)}}
    for name, kind, options in input_definitions(known):
        if is_widget(kind, options) and name not in found:
            found[name] = default(kind, options)
    return [found[slot] for slot in widget_slots(known)]


def default(kind: str, options: dict) -> Any:
    """Return what a widget shows by itself. Raises KeyError for a list without a default: name a choice."""
    return options.get("default", "") if kind == "STRING" else options["default"]
