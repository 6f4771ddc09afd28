"""The outcome of each prompt, whether it was to be expected, and whether repeats are what they were."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from comfyhost.prompt_builder import ApiPrompt
from ipadapter_instruct.commands.servers.client import (
    Client,
    ClientError,
    NodeFailedError,
    PromptRejectedError,
    Run,
    RunInterruptedError,
)
from PIL import Image

from soak.files import State, Stored
from soak.tried_values import PACK

DONE, INTERRUPTED, REFUSED, BROKEN = "done", "interrupted", "refused", "broken"
# The node's words: "FILE (...), in ..." or "saved: FILE, in ...". Both lie in the output folder.
SAVES = {f"{PACK}SaveEmbeds": "", f"{PACK}ReadFace": "saved: "}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a prompt: its kind is one of the four above.

    said: why it did not end with pictures. made: the files it made, each with its digest, by "node type".
    """

    kind: str
    said: str = ""
    made: Mapping[str, Mapping[Path, str]] = field(default_factory=dict)


def queued(client: Client, prompt: ApiPrompt) -> str | Outcome:
    """Queue a prompt and return its id, or what became of it where the server would not have it."""
    try:
        return client.queue(prompt)
    except ClientError as error:
        return Outcome(REFUSED if isinstance(error, PromptRejectedError) else BROKEN, str(error))


def outcome(client: Client, prompt: ApiPrompt, prompt_id: str, base: Path) -> Outcome:
    """Follow a queued prompt to its end. The pack's nodes refuse with a ValueError; all else is not expected."""
    try:
        return Outcome(DONE, made=files_made(client.wait(prompt_id), prompt, base))
    except RunInterruptedError:
        return Outcome(INTERRUPTED)
    except NodeFailedError as error:
        refused = error.node_type.startswith(PACK) and is_pack_error(error.traceback)
        return Outcome(REFUSED, str(error)) if refused else Outcome(BROKEN, f"{error}\n{error.traceback[-1500:]}")
    except ClientError as error:
        return Outcome(BROKEN, str(error))


def is_pack_error(traceback: str) -> bool:
    """True when a traceback ends in a `raise` of the pack's own."""
    return "raise ValueError" in traceback[-1500:] or "raise AdapterFileError" in traceback[-1500:]


def files_of(prompt: ApiPrompt, state: State) -> list[str]:
    values = (value for node in prompt.values() for value in node["inputs"].values())
    return sorted({value for value in values if isinstance(value, str) and value in state})


def inputs_of(prompt: ApiPrompt, kind: str) -> list[dict]:
    return [node["inputs"] for node in prompt.values() if node["class_type"] == PACK + kind]


def why_unsound(prompt: ApiPrompt, state: State) -> str:
    """Say why the pack should refuse a prompt, files being as they are; "" where it should not."""
    family = prompt.inputs("CheckpointLoaderSimple")["ckpt_name"].partition(".")[0]
    gone = (f"{name} is not there" for name in files_of(prompt, state) if state[name] is None)
    if found := next(gone, ""):
        return found
    for name in (inputs["adapter_name"] for inputs in inputs_of(prompt, "Loader")):
        if state[name].family != family:
            return f"{name} is for {state[name].family}, the model for {family}"
    for inputs in inputs_of(prompt, "LoadEmbeds"):
        name = prompt[inputs["adapter"][0]]["inputs"]["adapter_name"]
        if state[inputs["file"]].adapter != state[name]:
            return f"{inputs['file']} was made with another adapter than {name} is now"
    return ""


class Verdict:
    """The verdict on all prompts so far. complaints: what should not have been."""

    def __init__(self):
        self.outcomes: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.compared = 0
        self._made: dict[str, dict[tuple, tuple[int, Mapping]]] = {}  # by graph, then by its files' content

    def take(self, number: int, prompt: ApiPrompt, came: Outcome, state: State, interrupted: bool) -> str:
        """Take in the outcome of a prompt, and return why it was to be refused, if it was, or what is wrong with it.

        state: of the files when it was queued. interrupted: whether an interrupt was sent while it was in the queue.
        """
        self.outcomes[came.kind] += 1
        why, wrong = why_unsound(prompt, state), ""
        if came.kind == DONE:
            wrong = f"should have been refused, since {why}" if why else self._compare(number, prompt, came, state)
        elif came.kind == REFUSED:
            wrong = "" if why else f"refused without a reason: {came.said}"
        elif came.kind == BROKEN or not interrupted:
            wrong = f"{came.kind}: {came.said}"
        if wrong:
            self.complaints.append(f"prompt {number}: {wrong}")
        return wrong or why

    def _compare(self, number: int, prompt: ApiPrompt, came: Outcome, state: State) -> str:
        """Say how prompts of the same graph contradict each other: the same files give the same, others another."""
        if not came.made:
            return "it made nothing"
        made = {node: list(files.values()) for node, files in came.made.items()}
        earlier = self._made.setdefault(json.dumps(prompt), {})
        first, before = earlier.setdefault(tuple(state[name] for name in files_of(prompt, state)), (number, made))
        if first == number:
            stale = [other for other, one in earlier.values() if other != number and one == made]
            acts = inputs_of(prompt, "Watch")  # see prompts.WATCHED
            return f"is the same as prompt {stale[0]}, whose files were others" if stale and acts else ""
        self.compared += 1
        differing = sorted(node for node in made.keys() | before.keys() if made.get(node) != before.get(node))
        return f"differs from prompt {first} at {', '.join(differing)}" if differing else ""


def stored(prompt: ApiPrompt, came: Outcome, state: State) -> list[tuple[Path, Stored]]:
    """Return the faces that a prompt has saved, and the embeds, where it reads a single adapter."""
    adapters = {state[inputs["adapter_name"]] for inputs in inputs_of(prompt, "Loader")}
    found = []
    for node, files in came.made.items():
        if node.endswith("ReadFace"):
            found += [(path, Stored(digest)) for path, digest in files.items()]
        elif node.endswith("SaveEmbeds") and len(adapters) == 1:
            found += [(path, Stored(digest, *adapters)) for path, digest in files.items()]
    return found


def files_made(run: Run, prompt: ApiPrompt, base: Path) -> dict[str, dict[Path, str]]:
    """Return the pictures, latents and files that a run has made, each with its digest, by "node type"."""
    made = {}
    for node_id, output in run.outputs.items():
        kind = prompt.get(node_id, {}).get("class_type", "")
        listed = [one for name in ("images", "latents") for one in output.get(name, [])]
        files = [base / one["type"] / one["subfolder"] / one["filename"] for one in listed]
        for line in output.get("text", ()) if kind in SAVES else ():  # the node says what it has written
            if line.startswith(SAVES[kind]) and ".safetensors" in line:
                files.append(base / "output" / re.split(r" \(|, in ", line.removeprefix(SAVES[kind]))[0])
        if files:
            made[f"{node_id} {kind}"] = {file: digest(file) for file in files}
    return made


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
