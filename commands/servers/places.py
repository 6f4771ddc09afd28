"""The places of a workflow: nodes whose titles say where a row's values go in, and where results come out.

A title such as "Reference" or "Seed" names one place; "Seed, cfg" names two of one node. A place's value goes to the
node's input of that name (prompt, cfg), else to the one input that can be meant: the picture of Load Image, the only
text of a node, its seed, its only number. So a primitive node of ComfyUI's, titled and linked, reaches any input.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .api_prompt import SEED_INPUTS, UPLOADS, ObjectInfo, input_definitions, is_widget
from .graph import WorkflowError


@dataclass(frozen=True)
class Places:
    """The places of a prompt. inputs: (node id, input) of those for values; outputs: node ids of those that give."""

    inputs: Mapping[str, tuple[tuple[str, str], ...]]
    outputs: Mapping[str, str]

    def filled(self, prompt: Mapping[str, dict], values: Mapping[str, object]) -> dict[str, dict]:
        """Return the prompt with the values of its places; those of places that it lacks are not needed."""
        made = copy.deepcopy(dict(prompt))
        for place, value in values.items():
            for node_id, name in self.inputs.get(place, ()):
                made[node_id]["inputs"][name] = value
        return made


def find_places(
    prompt: Mapping[str, dict], object_info: ObjectInfo, inputs: Mapping[str, str], outputs: Collection[str]
) -> Places:
    """Return the places that a prompt's titles name, out of these.

    inputs: places for values, with their kinds: picture, text, seed or number; or the name of an input. outputs: places
    for results. Raises WorkflowError that names every title whose node has no such input, and every output named twice.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    given: dict[str, str] = {}
    wrong = []
    for node_id, node in prompt.items():
        for title in titles(node):
            if title in {place.lower() for place in outputs} and gives(node, object_info):
                if title in given:
                    wrong.append(f'Two nodes are titled "{title}", {given[title]} and {node_id}; one was expected.')
                given[title] = node_id
            elif kind := next((kind for place, kind in inputs.items() if place.lower() == title), None):
                name = input_for(title, kind, node, object_info)
                found.setdefault(title, []).append((node_id, name))
                if not name:
                    wrong.append(
                        f'Node {node_id} ({node["class_type"]}) is titled "{title}", but has no input that this can '
                        f"be: one called {title.replace(' ', '_')}, or its only {kind}."
                    )
    if wrong:
        raise WorkflowError("\n".join(wrong))
    own = {place.lower(): place for place in (*inputs, *outputs)}
    return Places({own[title]: tuple(found[title]) for title in found}, {own[title]: given[title] for title in given})


def titles(node: dict) -> list[str]:
    return [part.strip().lower() for part in (node.get("_meta") or {}).get("title", "").split(",")]


def gives(node: dict, object_info: ObjectInfo) -> bool:
    """Return whether a node shows or saves results."""
    return bool(object_info.get(node["class_type"], {}).get("output_node"))


def input_for(title: str, kind: str, node: dict, object_info: ObjectInfo) -> str:
    """Return the name of the input that a place means in a node; "" where there is none, or more than one."""
    widgets = [entry for entry in input_definitions(object_info[node["class_type"]]) if is_widget(*entry[1:])]
    names = [name for name, _, _ in widgets]
    own = title.replace(" ", "_")
    if own in names or kind in names:
        return own if own in names else kind
    fits = {
        "picture": lambda name, type_, options: any(options.get(upload) for upload in UPLOADS),
        "text": lambda name, type_, options: type_ == "STRING",
        "seed": lambda name, type_, options: type_ == "INT" and (name in SEED_INPUTS or len(widgets) == 1),
        "number": lambda name, type_, options: type_ in ("INT", "FLOAT"),
    }
    found = [entry[0] for entry in widgets if kind in fits and fits[kind](*entry)]
    return found[0] if len(found) == 1 else ""


def check_there(places: Places, inputs: Collection[str], outputs: Collection[str], name: str) -> None:
    """Raises WorkflowError, which names every place that is needed and not there. name: the workflow's."""
    missing = [place for place in inputs if place not in places.inputs]
    missing += [place for place in outputs if place not in places.outputs]
    if missing:
        there = ", ".join((*places.inputs, *places.outputs)) or "none"
        raise WorkflowError(
            f"{name} was expected to have nodes titled {', '.join(missing)}; it has {there}. Open it in ComfyUI and "
            "double-click the title of the node that the value should go to, or that gives the result."
        )
