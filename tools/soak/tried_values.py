"""The values that are tried of the inputs of the pack's nodes, by its schema."""

import json
from collections.abc import Mapping, Sequence

from comfyhost.places import REPO_ROOT
from comfyhost.standins import VIT_H

PACK = "IPAdapterInstruct"
NODES = json.loads((REPO_ROOT / "tests" / "data" / "node-schema.json").read_text(encoding="utf-8"))
INSTRUCTIONS = ("use the style", "use the composition", "use the face", "use the pose", "the object, a red car")
# Values of the pack's texts, and of what its schema leaves open or is not to be tried, by "node.input" or by name.
VALUES = {
    "background": ("random", "#808080", "orange"),
    "cell_width": (0, 64),
    "column_labels": ("", "one column"),
    "factors": ("0: 1, 0.35: 0.5", "1, 0.8, 0.5", "0: 0, 0.5: 1", "0.7", ""),
    "instruction": INSTRUCTIONS,
    "Loader.image_encoder": ("auto", VIT_H.path.rpartition("/")[2]),
    "negative_instruction": ("", "", "", INSTRUCTIONS[0]),
    "negative_prompt": ("", "blurry, low quality"),
    "prompt": ("a cat on a roof", "", "two people (talking:1.2) in the rain"),
    "Reference.instruction": ("", "", *INSTRUCTIONS),
    "save_as": ("", "", "faces/soak"),
    "weight_1": (1.0, 0.7, 1.5),
    "weight_2": (1.0, 0.4),
}


def _tried(kind: str, name: str, type_: str, more: Mapping) -> Sequence:
    """Return the values that are tried of an input of the pack: of a number its default and its ends."""
    own = VALUES.get(f"{kind}.{name}", VALUES.get(name))
    if own is None and "max" in more:
        return more["default"], more["default"], more["min"], more["max"]
    typed = {"BOOLEAN": (False, True), "STRING": (more.get("default"),)}
    return own or more.get("options") or typed.get(type_, ())


TRIED = {
    kind: {name: _tried(kind.removeprefix(PACK), name, type_, more) for _, name, type_, more in node["inputs"]}
    for kind, node in NODES.items()
}
