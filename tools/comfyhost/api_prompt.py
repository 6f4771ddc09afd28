"""The prompt that ComfyUI's HTTP API takes, put together node by node, or with one of its nodes changed.

A saved workflow, the page's own form, is another thing: `workflow.to_prompt` makes a prompt of one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping


class ApiPrompt(dict[str, dict]):
    """Nodes by their ids: {id: {class_type, inputs}}.

    `add` and `out` put nodes into it. All else leaves it as it is; where a node is spoken of by its type, the prompt
    has one of that type.
    """

    def add(self, kind: str, **inputs) -> str:
        """Add a node and return its id; they count up. Inputs that are None are left out."""
        node_id = str(len(self) + 1)
        self[node_id] = _node(kind, {name: value for name, value in inputs.items() if value is not None})
        return node_id

    def out(self, kind: str, slot: int = 0, **inputs) -> list:
        """Add a node and return a link from one of its outputs."""
        return [self.add(kind, **inputs), slot]

    def id(self, kind: str) -> str:
        """Return the node's id."""
        (found,) = (node_id for node_id, node in self.items() if node["class_type"] == kind)
        return found

    def output(self, kind: str, slot: int = 0) -> list:
        """Return a link from one of the node's outputs."""
        return [self.id(kind), slot]

    def inputs(self, kind: str) -> dict:
        """Return a copy of the node's inputs."""
        return dict(self[self.id(kind)]["inputs"])

    def changed(self, kind: str, **inputs) -> ApiPrompt:
        """Return the prompt with other inputs of the node."""
        prompt = ApiPrompt(copy.deepcopy(dict(self)))
        prompt[prompt.id(kind)]["inputs"].update(inputs)
        return prompt

    def with_node(self, node_id: str, kind: str, **inputs) -> ApiPrompt:
        """Return the prompt with another node, or with this one in the place of the one of that id."""
        return ApiPrompt({**copy.deepcopy(dict(self)), node_id: _node(kind, inputs)})


def _node(kind: str, inputs: Mapping) -> dict:
    return {"class_type": kind, "inputs": dict(inputs)}
