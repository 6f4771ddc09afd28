"""The nodes and links of a saved workflow, and of the subgraphs inside it: what really feeds an input.

Source: ComfyUI_frontend's src/utils/executionUtil.ts, src/lib/litegraph/src/subgraph/ExecutableNodeDTO.ts, and its
docs/adr/0009: a promoted widget is an input of the subgraph, and the node that stands for the subgraph has its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NEVER, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
VIRTUAL = (*NOTES, "Reroute", "PrimitiveNode")
WIDGET_KINDS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
SUBGRAPH_INPUT = -10  # the id of the node that stands for a subgraph's inputs, inside it
NOWHERE = (0, 0, 0, 0)  # a link that is not there: no node has this id
DEEPEST = 50  # subgraphs in subgraphs; deeper, one holds itself


class WorkflowError(ValueError):
    """The workflow cannot be turned into a prompt for this server."""


def describe(node: dict) -> str:
    return f"Node {node['id']} ({node['type']})"


def guarded(value: Any) -> Any:
    """A list as a value must not look like a link: the API has a wrapping for it."""
    return {"__value__": value} if isinstance(value, list) else value


@dataclass(frozen=True)
class Graph:
    """The nodes of a workflow, or of a subgraph.

    content: its part of the file. definitions: of all subgraphs. around: where it is a subgraph, the graph that it is
    in, and the node there that stands for it.
    """

    content: dict
    definitions: Mapping[str, dict]
    nodes: Mapping[int, dict]
    links: Mapping[int, tuple[int, int, int, int]]
    around: tuple[Graph, dict] | None = None

    @staticmethod
    def of(workflow: dict) -> Graph:
        definitions = (workflow.get("definitions") or {}).get("subgraphs", [])
        return graph_of(workflow, {one["id"]: one for one in definitions})

    def inside(self, node: dict) -> Graph:
        """Return the graph of the subgraph that a node stands for."""
        depth, graph = 0, self
        while graph.around:
            depth, graph = depth + 1, graph.around[0]
        if depth > DEEPEST:
            raise WorkflowError(
                f"{describe(node)} is a subgraph that holds itself. Unpack it in ComfyUI and save again."
            )
        return graph_of(self.definitions[node["type"]], self.definitions, (self, node))

    def full_id(self, node: dict) -> str:
        """Return a node's id in a prompt: those of the subgraphs that it is in come first."""
        return f"{self.around[0].full_id(self.around[1])}:{node['id']}" if self.around else str(node["id"])

    def executed(self) -> Iterator[tuple[Graph, dict]]:
        """Yield the nodes that run, those in subgraphs too, each with its graph."""
        for node in self.content["nodes"]:
            if node["type"] in VIRTUAL or node.get("mode", 0) in (NEVER, BYPASSED):
                continue
            if node["type"] in self.definitions:
                yield from self.inside(node).executed()
            else:
                yield self, node

    def sources(self, slot: dict) -> list:
        """Return what feeds an input, [node id, output] or a value: back through reroutes and bypassed nodes, and into
        and out of subgraphs. It is empty when that is muted or leads nowhere.
        """
        if slot.get("link") is None:
            return []
        start, output, _, _ = self.links.get(slot["link"], NOWHERE)
        if self.around and start == SUBGRAPH_INPUT:
            return self.from_outside(output, *self.around)
        if start not in self.nodes:
            raise WorkflowError(
                f"The workflow's link {slot['link']} starts nowhere: the file is damaged. "
                "Open it in ComfyUI, connect the input again and save it."
            )
        return self.from_output(self.nodes[start], output)

    def from_output(self, node: dict, output: int) -> list:
        mode = node.get("mode", 0)
        if mode == NEVER or node["type"] in NOTES:
            return []
        if node["type"] == "PrimitiveNode":
            return [guarded(node["widgets_values"][0])]
        if node["type"] == "Reroute":
            return self.sources(node["inputs"][0])
        if mode == BYPASSED:
            # It passes on an input of the output's type, the one in the same place first.
            slots, kind = node.get("inputs") or [], node["outputs"][output]["type"]
            passed_on = (slot for slot in (*slots[output : output + 1], *slots) if slot["type"] == kind)
            return self.sources(next(passed_on, {}))
        if node["type"] in self.definitions:
            inside = self.inside(node)
            link = next(iter(inside.content["outputs"][output].get("linkIds") or []), None)
            return inside.sources({"link": link})
        return [[self.full_id(node), output]]

    def from_outside(self, number: int, outer: Graph, node: dict) -> list:
        """Return what feeds a subgraph's input: a link of the outer graph, or the value of the promoted widget."""
        name = self.content["inputs"][number]["name"]
        slot = next((one for one in node.get("inputs") or [] if one["name"] == name), {})
        if slot.get("link") is not None:
            return outer.sources(slot)
        values = node.get("widgets_values") or []
        place = sum(map(self.promoted, range(number)))
        return [guarded(values[place])] if self.promoted(number) and place < len(values) else []

    def promoted(self, number: int) -> bool:
        """Return whether an input of this subgraph is a promoted widget, for which its node has a value."""
        for link in self.content["inputs"][number].get("linkIds") or []:
            _, _, target, place = self.links.get(link, NOWHERE)
            node = self.nodes.get(target, {})
            slot = (node.get("inputs") or [{}] * (place + 1))[place]
            if node.get("type") in self.definitions:
                inside = self.inside(node)
                names = [one["name"] for one in inside.content["inputs"]]
                if slot.get("name") in names and inside.promoted(names.index(slot["name"])):
                    return True
            elif slot.get("widget"):
                return True
        return False


def graph_of(content: dict, definitions: Mapping[str, dict], around: tuple[Graph, dict] | None = None) -> Graph:
    nodes = {one["id"]: one for one in content["nodes"]}
    fields = ("id", "origin_id", "origin_slot", "target_id", "target_slot")  # links inside subgraphs are objects
    rows = [[link[field] for field in fields] if isinstance(link, dict) else link for link in content["links"]]
    links = {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
    return Graph(content, definitions, nodes, links, around)
