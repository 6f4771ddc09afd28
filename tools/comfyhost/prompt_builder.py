"""An API prompt put together node by node, or changed, by tests and tools."""

from __future__ import annotations

import copy


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
