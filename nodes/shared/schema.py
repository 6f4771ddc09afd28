"""The nodes' schemas: their words, and what newer versions of ComfyUI know of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from comfy_api.latest import io

LOCALES = Path(__file__).parents[2] / "locales"
ENGLISH = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


@dataclass
class Schema(io.Schema):
    """A node's schema. Its display name, its description and all tooltips are those in `locales/en`.

    search_aliases: other words that the page's search finds the node by; ComfyUI 0.3.75 does not read them.
    Raises KeyError for a node, an input or an output that has no words there.
    """

    search_aliases: list[str] = field(default_factory=list)

    def __post_init__(self):
        words = ENGLISH[self.node_id]
        self.display_name, self.description = words["display_name"], words["description"]
        for one in self.inputs:
            one.tooltip = words["inputs"][one.id]["tooltip"]
        for place, output in enumerate(self.outputs):
            output.tooltip = words["outputs"][str(place)]["tooltip"]


def advanced(one: io.Input) -> io.Input:
    """Have the page fold an input away until it is asked for. ComfyUI 0.3.75's inputs have no argument for it."""
    one.extra_dict["advanced"] = True
    return one
