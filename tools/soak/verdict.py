"""The outcome of each prompt, whether it was to be expected, and whether repeats are what they were."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from comfyhost.client import Run
from PIL import Image

from soak.catalogue import ADAPTERS, EMBEDS, Adapter
from soak.generator import Prompt
from soak.schema import OF_THE_SERVER, Schema, is_link

DONE, INTERRUPTED, REFUSED, BROKEN = "done", "interrupted", "refused", "broken"
# The node's words: "FILE (...), in ..." or "saved: FILE, in ...". Both lie in the output folder.
SAVES = {"IPAdapterInstructSaveEmbeds": "", "IPAdapterInstructReadFace": "saved: "}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a prompt.

    kind: one of the four above. said: why it did not end with pictures. made: digests of what it made.
    """

    kind: str
    said: str = ""
    made: Mapping[str, list[str]] = field(default_factory=dict)


def why_unsound(prompt: Prompt, state: Mapping[str, Adapter | str | None]) -> str:
    """Say why the pack should refuse a prompt, files being as they are; "" where it should not."""
    for name, embeds in sorted(prompt.uses, key=str):
        content = state[name]
        if content is None:
            return f"{name} is not there"
        if content.family != prompt.family:
            return f"{name} is for {content.family}, the model for {prompt.family}"
        if embeds is not None and state[embeds] is None:
            return f"{embeds} is not there"
        if embeds is not None and content != ADAPTERS[EMBEDS[state[embeds]].adapter]:
            return f"{embeds} was made with another adapter than {name} is now"
    return next((f"{name} is not there" for name in prompt.faces if state[name] is None), "")


def files_of(prompt: Prompt) -> list[str]:
    """The changing files that a prompt reads."""
    used = {name for adapter, embeds in prompt.uses for name in (adapter, embeds) if name is not None}
    return sorted(used | prompt.faces)


class Verdict:
    """Collects outcomes. complaints: what should not have been."""

    def __init__(self):
        self.outcomes: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.refusals: list[str] = []
        self.compared = 0
        self._first: dict[tuple, tuple[int, Mapping]] = {}

    def take(self, prompt: Prompt, outcome: Outcome, state: Mapping, interrupts: int) -> None:
        """Take in the outcome of a prompt.

        state: of the files when the prompt was queued. interrupts: how many were sent while it was in the queue.
        """
        self.outcomes[outcome.kind] += 1
        why = why_unsound(prompt, state)
        if outcome.kind == BROKEN or (outcome.kind == INTERRUPTED and not interrupts):
            self.complain(prompt, f"{outcome.kind}: {outcome.said}")
        elif outcome.kind == REFUSED and not why:
            self.complain(prompt, f"refused without a reason: {outcome.said}")
        elif outcome.kind == DONE and why:
            self.complain(prompt, f"should have been refused, since {why}")
        elif outcome.kind == REFUSED:
            self.refusals.append(f"{why}: {outcome.said.splitlines()[-1][:300]}")
        elif outcome.kind == DONE:
            self.compare(prompt, outcome, state)

    def compare(self, prompt: Prompt, outcome: Outcome, state: Mapping) -> None:
        """Compare the outcome with that of the first prompt of the same graph on the same files."""
        if not outcome.made:
            self.complain(prompt, "it made nothing")
        key = prompt.text, tuple((name, state[name]) for name in files_of(prompt))
        first, made = self._first.setdefault(key, (prompt.number, outcome.made))
        if first != prompt.number:
            self.compared += 1
            if made != outcome.made:
                differing = [
                    node for node in made.keys() | outcome.made.keys() if made.get(node) != outcome.made.get(node)
                ]
                self.complain(prompt, f"differs from prompt {first} at {', '.join(sorted(differing))}")

    def complain(self, prompt: Prompt, what: str) -> None:
        self.complaints.append(f"prompt {prompt.number} ({prompt.recipe}, {prompt.family}): {what}")


def digests(run: Run, prompt: Prompt, base: Path) -> dict[str, list[str]]:
    """Return digests of the pictures, latents and files that a run has made, by "node type"."""
    made = {}
    for node_id, output in run.outputs.items():
        kind = prompt.graph.get(node_id, {}).get("class_type", "")
        files = [base / one["type"] / one["subfolder"] / one["filename"] for one in _listed(output)]
        files += _named_in_text(kind, output, base)
        if files:
            made[f"{node_id} {kind}"] = [digest(file) for file in files]
    return made


def _listed(output: Mapping) -> list[dict]:
    return [one for name in ("images", "latents") for one in output.get(name, [])]


def _named_in_text(kind: str, output: Mapping, base: Path) -> list[Path]:
    """The file that a node of the pack says it has written."""
    if kind not in SAVES:
        return []
    said = [line for line in output.get("text", ()) if line.startswith(SAVES[kind]) and ".safetensors" in line]
    return [base / "output" / re.split(r" \(|, in ", line.removeprefix(SAVES[kind]))[0] for line in said]


def digest(file: Path) -> str:
    """Return a digest of pixels, or of tensors and what the pack's files say beside them; not of the prompt."""
    if file.suffix == ".png":
        with Image.open(file) as picture:
            pixels = np.asarray(picture)
        return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if file.suffix == ".latent":
        header.pop("__metadata__", None)
    # safetensors writes what it says beside the tensors in another order each time
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + content[8 + length :]).hexdigest()


class Coverage:
    """The nodes, inputs and choices of the pack that the prompts have used.

    options: by node and input, what can be told apart: a combo's choices, both of a switch, given or left as it is.
    """

    def __init__(self, schema: Schema):
        self.schema = schema
        self.options = {
            (kind, name): _options(required, name, type_, more)
            for kind in schema.nodes
            for name, (required, type_, more) in schema.inputs(kind).items()
        }
        self.nodes: Counter[str] = Counter()
        self.used: Counter[tuple[str, str, str]] = Counter()

    def take(self, prompt: Prompt) -> None:
        for node in prompt.graph.values():
            kind = node["class_type"]
            if kind not in self.schema.nodes:
                continue
            self.nodes[kind] += 1
            for name, (_, _, more) in self.schema.inputs(kind).items():
                use = _use(node["inputs"].get(name), self.options[kind, name], more.get("default"))
                self.used[kind, name, use] += 1

    def unused(self) -> list[str]:
        return [
            f"{kind}.{name}: {option}"
            for (kind, name), options in self.options.items()
            for option in options
            if not self.used[kind, name, option]
        ]

    def __str__(self) -> str:
        every = sum(len(options) for options in self.options.values())
        unused = self.unused()
        return (
            f"{len(self.nodes)} of {len(self.schema.nodes)} nodes, {every - len(unused)} of {every} options; "
            f"unused: {'; '.join(unused) or 'none'}"
        )


def _options(required: bool, name: str, type_: str, more: Mapping) -> list[str]:
    if type_ == "COMBO" and name not in OF_THE_SERVER:
        return list(more["options"])
    if type_ == "BOOLEAN":
        return ["True", "False"]
    return ["given"] if required else ["given", "left"]


def _use(value, options: list[str], default) -> str:
    """Return the option that a value is; an input that is left is its default."""
    if not is_link(value):
        found = str(default if value is None else value)
        if found in options:
            return found
    return "left" if value is None else "given"
