"""The pack's nodes by their stored schema, and what is wrong with a prompt by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from comfyhost.places import REPO_ROOT

OF_THE_SERVER = ("adapter_name", "image_encoder", "text_encoder", "file", "sampler_name", "scheduler")
SCHEMA = REPO_ROOT / "tests" / "data" / "node-schema.json"
LEFT_OUT = ("IPAdapterInstructTrain",)  # its runs are long; tests/server/test_training.py has them
# The types of what ComfyUI's own nodes give, and the pack's that its schema does not have.
CORE = {
    "BasicGuider": ("GUIDER",),
    "BasicScheduler": ("SIGMAS",),
    "CFGGuider": ("GUIDER",),
    "CLIPTextEncode": ("CONDITIONING",),
    "CLIPVisionEncode": ("CLIP_VISION_OUTPUT",),
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "CreateHookKeyframe": ("HOOK_KEYFRAMES",),
    "EmptyLatentImage": ("LATENT",),
    "EmptySD3LatentImage": ("LATENT",),
    "ImageBatch": ("IMAGE",),
    "KSampler": ("LATENT",),
    "KSamplerAdvanced": ("LATENT",),
    "KSamplerSelect": ("SAMPLER",),
    "LoadImage": ("IMAGE", "MASK"),
    "LoraLoader": ("MODEL", "CLIP"),
    "MaskToImage": ("IMAGE",),
    "RandomNoise": ("NOISE",),
    "RepeatLatentBatch": ("LATENT",),
    "SamplerCustomAdvanced": ("LATENT", "LATENT"),
    "SaveImage": (),
    "SaveLatent": (),
    "SetLatentNoiseMask": ("LATENT",),
    "SoakCurve": ("CURVE",),
    "SoakPlusEmbeds": ("EMBEDS",),
    "SolidMask": ("MASK",),
    "VAEDecode": ("IMAGE",),
    "VAEEncode": ("LATENT",),
}


def is_link(value) -> bool:
    return isinstance(value, list)


class Schema:
    """The pack's nodes as its stored schema has them, but for those that are left out of a soak."""

    def __init__(self, path: Path = SCHEMA):
        nodes = json.loads(path.read_text(encoding="utf-8"))
        self.nodes = {kind: node for kind, node in nodes.items() if kind not in LEFT_OUT}

    def inputs(self, kind: str) -> dict[str, tuple[bool, str, dict]]:
        """Return each input by name: whether it is required, its type, its options."""
        return {name: (group == "required", type_, more) for group, name, type_, more in self.nodes[kind]["inputs"]}

    def options(self, kind: str, name: str) -> list[str]:
        """Return what a combo offers."""
        return self.inputs(kind)[name][2]["options"]

    def outputs(self, kind: str) -> tuple[str, ...]:
        return tuple(type_ for _, type_ in self.nodes[kind]["outputs"]) if kind in self.nodes else CORE[kind]

    def problems(self, nodes: Mapping[str, dict]) -> list[str]:
        """Return what a server would refuse of the pack's nodes, and links that lead nowhere or to another type."""
        found = []
        for node_id, node in nodes.items():
            for name, value in node["inputs"].items():
                if is_link(value) and not self._has_output(nodes, value):
                    found.append(f"{node_id} {node['class_type']}: {name} is linked to nothing")
            if node["class_type"] in self.nodes:
                found += [f"{node_id} {node['class_type']}: {one}" for one in self._problems(nodes, node)]
        return found

    def _has_output(self, nodes: Mapping[str, dict], link: list) -> bool:
        node_id, slot = link
        return node_id in nodes and slot < len(self.outputs(nodes[node_id]["class_type"]))

    def _problems(self, nodes: Mapping[str, dict], node: dict) -> list[str]:
        known, given = self.inputs(node["class_type"]), node["inputs"]
        found = [f"{name} is missing" for name, (required, _, _) in known.items() if required and name not in given]
        found += [f"it has no {name}" for name in given if name not in known]
        for name in given.keys() & known.keys():
            _, type_, options = known[name]
            if is_link(given[name]):
                source = self.outputs(nodes[given[name][0]]["class_type"])[given[name][1]]
                fits = source in type_.split(",")
            else:
                fits = _is_value(given[name], name, type_, options)
            if not fits:
                found.append(f"{name} ({type_}) cannot be {given[name]!r}")
        return found


PLAIN = {"STRING": str, "INT": int, "FLOAT": (int, float), "BOOLEAN": bool}


def _is_value(value, name: str, type_: str, options: Mapping) -> bool:
    """True when a widget of this type takes the value. What lists of files hold is known to the server alone."""
    if type_ == "COMBO":
        return isinstance(value, str) and (name in OF_THE_SERVER or value in options["options"])
    if type_ not in PLAIN or not isinstance(value, PLAIN[type_]):
        return False
    return options.get("min", value) <= value <= options.get("max", value) if type_ in ("INT", "FLOAT") else True
