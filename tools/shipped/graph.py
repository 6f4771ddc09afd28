"""A workflow under construction: nodes placed and linked by names, written as ComfyUI's page saves them.

The page's form has what a prompt for the API has not, such as places, sizes, slots, groups and notes; comfyhost's
`api_prompt` builds the other.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from comfyhost.places import COMFYUI_VERSION, PACK_FOLDER, REPO_ROOT
from ipadapter_instruct.commands.servers.api_prompt import (
    CONTROL,
    UPLOAD_BUTTON,
    input_definitions,
    is_widget,
    widget_slots,
)

OPTIONAL_SHAPE = 7
BESIDE_VALUES = {CONTROL: "fixed", UPLOAD_BUTTON: "image"}
BESIDE_NAMES = {CONTROL: "control_after_generate", UPLOAD_BUTTON: "upload"}
NAMESPACE = uuid.UUID("6f1f1c0c-2a53-4d0f-9a6e-0c5b6c7d8e91")
NEWER_NODES = {  # of ComfyUI's own, those that it has had only since a later version
    **dict.fromkeys(("SAM3_Detect",), "0.20.0"),
    **dict.fromkeys(("LoadBackgroundRemovalModel", "RemoveBackground"), "0.21.0"),
    **dict.fromkeys(("LoadMediaPipeFaceLandmarker", "MediaPipeFaceLandmarker", "MediaPipeFaceMask"), "0.23.0"),
}
GROUP_COLOUR, NOTE_COLOURS = "#3f789e", {"color": "#432", "bgcolor": "#653"}


@dataclass(frozen=True)
class Output:
    """The output of a node, from which a link starts."""

    node: int
    slot: int
    type: str


Node = Mapping[str, Output]  # a node that was added: its outputs by name
Source = Output | Node
SOURCES = (Output, Mapping)
Pair = tuple[int, int]  # a place, or a size


def output_for(source: Any, name: str, kind: str) -> Output | None:
    """Return what an input takes from a source: of a node the output of its name, or the first of its type."""
    if not isinstance(source, Mapping):
        return source if isinstance(source, Output) else None
    found = [source[name]] if name in source else [output for output in source.values() if output.type == kind]
    if not found:
        raise ValueError(f"An output {name} or of type {kind} was expected; there are {', '.join(source) or 'none'}.")
    return found[0]


@dataclass
class Workflow:
    """The nodes in the order in which data flows.

    object_info: what a server's /object_info says of every node. loaded: the outputs of loaders, by which sockets that
    must have something are linked to what is of their type when nothing is named.
    """

    name: str
    object_info: Mapping[str, dict]
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    loaded: dict[str, Output] = field(default_factory=dict)
    extra: dict = field(default_factory=dict)

    def add(self, kind: str, pos: Pair, size: Pair, title: str = "", models: Sequence[dict] = (), **inputs) -> Node:
        """Add a node. inputs: an output, or its node, to link from; or a value. Other widgets take their defaults."""
        known = self.object_info[kind]
        slots = self.slots(known, inputs)
        if unknown := inputs.keys() - {slot["name"] for slot in slots}:
            raise ValueError(f"{kind} has no inputs {', '.join(sorted(unknown))}")
        folded = {name for name, _, options in input_definitions(known) if options.get("advanced")}
        outputs = list(zip(known["output_name"], known["output"], strict=True))
        number = self.place(
            kind,
            pos,
            size,
            inputs=slots,
            outputs=[{"name": name, "type": type_, "links": []} for name, type_ in outputs],
            **({"title": title} if title else {}),
            properties=properties(kind, known, models),
            **saved_values(values(known, inputs)),
            **({"showAdvanced": True} if inputs.keys() & folded else {}),
        )
        return {name: Output(number, slot, type_) for slot, (name, type_) in enumerate(outputs)}

    def place(self, kind: str, pos: Pair, size: Pair, **content) -> int:
        """Put a node of any kind on the page and return its number."""
        number = len(self.nodes) + 1
        head = {"id": number, "type": kind, "pos": list(pos), "size": list(size)}
        self.nodes.append({**head, "flags": {}, "order": number - 1, "mode": 0, **content})
        return number

    def slots(self, known: dict, inputs: Mapping[str, Any]) -> list[dict]:
        """Return the next node's inputs, sockets first, as the page orders them, linked."""
        optional, found = known["input"].get("optional", {}), []
        for name, kind, options in sorted(input_definitions(known), key=lambda entry: is_widget(*entry[1:])):
            slot, source = {"name": name, "type": kind, "link": None}, output_for(inputs.get(name), name, kind)
            if name in optional:
                slot["shape"] = OPTIONAL_SHAPE
            if is_widget(kind, options):
                slot["widget"] = {"name": name}
            elif name not in optional and not source:
                source = next((output for output in self.loaded.values() if output.type == kind), None)
            if source:
                slot["link"] = self.link(source, len(found))
            found.append(slot)
        return found

    def link(self, source: Output, slot: int) -> int:
        """Link an output to an input of the next node; return the link's number."""
        number = len(self.links) + 1
        self.links.append([number, source.node, source.slot, len(self.nodes) + 1, slot, source.type])
        self.nodes[source.node - 1]["outputs"][source.slot]["links"].append(number)
        return number

    def note(self, text: str, pos: Pair, size: Pair) -> None:
        """Add a note in Markdown."""
        empty = {"inputs": [], "outputs": [], "title": "What to try", "properties": {}}
        self.place("MarkdownNote", pos, size, **empty, **saved_values({"text": text}), **NOTE_COLOURS)

    def group(self, title: str, left: int, top: int, width: int, height: int) -> None:
        """Add a coloured frame behind nodes."""
        head = {"id": len(self.groups) + 1, "title": title, "bounding": [left, top, width, height]}
        self.groups.append({**head, "color": GROUP_COLOUR, "font_size": 24, "flags": {}})

    def move_right(self, by: int) -> None:
        """Move everything, so that what was placed left of the first column comes into view."""
        for corner in (*(node["pos"] for node in self.nodes), *(group["bounding"] for group in self.groups)):
            corner[0] += by

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
            "extra": {"ds": {"scale": 0.7, "offset": [40, 60]}, **self.extra},
            "version": 0.4,
        }


def properties(kind: str, known: dict, models: Sequence[dict]) -> dict:
    """Return what lets the page offer a missing file, and Manager a missing pack."""
    core = known["python_module"] == "nodes" or known["python_module"].startswith("comfy_extras")
    since = NEWER_NODES.get(kind, COMFYUI_VERSION)
    pack, version = ("comfy-core", since) if core else (PACK_FOLDER, pack_version())
    found = {"cnr_id": pack, "ver": version, "Node name for S&R": kind}
    return {**found, "models": list(models)} if models else found


@cache
def pack_version() -> str:
    text = (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]


def values(known: dict, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's widget values by name, in the page's order; below a link lies what the widget shows by itself.

    Raises KeyError for a list without a default: name a choice.
    """
    found = BESIDE_VALUES | {name: value for name, value in inputs.items() if not isinstance(value, SOURCES)}
    for name, kind, options in input_definitions(known):
        if is_widget(kind, options) and name not in found:
            found[name] = options.get("default", "") if kind == "STRING" else options["default"]
    return {BESIDE_NAMES.get(slot, slot): found[slot] for slot in widget_slots(known)}


def saved_values(named: Mapping[str, Any]) -> dict:
    """Write widget values as ComfyUI's page does: by place, and (from 1.58 on) by name too."""
    return {"widgets_values": list(named.values()), **({"widgets_values_named": dict(named)} if named else {})}
