"""The nodes' schemas: their category, their sockets, their words, and what newer versions of ComfyUI know of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from comfy_api.latest import io

CATEGORY = "IPAdapter-Instruct"

Adapter = io.Custom("IPADAPTER_INSTRUCT")
Embeds = io.Custom("INSTRUCT_EMBEDS")
PlusEmbeds = io.Custom("EMBEDS")  # ComfyUI_IPAdapter_plus's
References = io.Custom("INSTRUCT_REFERENCES")
Schedules = io.Custom("INSTRUCT_SCHEDULE")
Layers = io.Custom("INSTRUCT_LAYERS")
InstructClip = io.Custom("INSTRUCT_CLIP")  # a text encoder that reads instructions, and nothing else
Face = io.Custom("INSTRUCT_FACE")
FaceAnalysis = io.Custom("INSIGHTFACE")  # insightface's own object, as in ComfyUI_IPAdapter_plus
Curve = io.Custom("CURVE")  # ComfyUI's own, in versions that have it

LOCALES = Path(__file__).parents[2] / "locales"
ENGLISH = json.loads((LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


@dataclass
class Schema(io.Schema):
    """A node's schema. Its display name, its description and all tooltips are those in `locales/en`.

    hidden: a node is told its own id, by which `output_with_text` finds it on the page; [] for one that says nothing.
    has_intermediate_output: whether ComfyUI (from 0.19 on) sends a node's words again at the end of a run that did not
    run it: a page that was loaded anew has forgotten them.
    search_aliases: other words that the page's search finds the node by; ComfyUI 0.3.75 does not read them.
    Raises KeyError for a node, an input or an output that has no words there.
    """

    hidden: list[io.Hidden] = field(default_factory=lambda: [io.Hidden.unique_id])
    search_aliases: list[str] = field(default_factory=list)
    has_intermediate_output: bool = field(init=False)

    def __post_init__(self):
        self.has_intermediate_output = bool(self.hidden)
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


def instruct_clip_input() -> io.Input:
    """Return an input for the instruction's text encoder: a CLIP, or one that reads nothing else."""
    return io.MultiType.Input("instruct_clip", types=[io.Clip, InstructClip], optional=True)
