"""The nodes that a real server runs again when one input of a shipped workflow changes, and where its time goes.

The small SD1.5 under the published names, with the real ViT-H.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

from comfyhost.client import Client
from comfyhost.demo import of_type, override, upload_pictures
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import ComfyServer
from comfyhost.standins import small_models, write_photo
from comfyhost.workflow import to_prompt

from benchmarks.report import Result

LOADERS = ("CheckpointLoaderSimple", "IPAdapterInstructLoader")
ENCODE, APPLY, SAMPLE, DECODE = "IPAdapterInstructEncode", "IPAdapterInstructApply", "KSampler", "VAEDecode"
SMALL = {"steps": 4, "width": 128, "height": 128}
CHANGES = (  # what, of which type of node, which input, its new value, promised runs of Encode and of Apply
    ("another seed", SAMPLE, "seed", 12345, 0, 0),
    ("another weight", APPLY, "weight", 0.55, 0, 1),
    ("another guidance", APPLY, "guidance", "simple", 0, 1),
    ("another task", ENCODE, "task", "pose", 1, 1),
    ("another prompt", ENCODE, "prompt", "a harbour in the morning", 1, 1),
    ("another negative prompt", ENCODE, "negative_prompt", "blurry", 1, 1),
)


def reruns() -> Iterator[Result]:
    """Promise that the loaders run once, and Encode for its own inputs, but not for what Apply or the sampler take."""
    comfyui = replace(host(), models=small_models())
    workflow = json.loads((REPO_ROOT / "workflows" / "instruct_sd15.json").read_text(encoding="utf-8"))
    with ComfyServer(comfyui) as server, Client(server.url) as client:
        prompt = to_prompt(workflow, client.object_info())
        override(prompt, SMALL)
        upload_pictures(prompt, client, write_photo)
        yield timed("first run", client, prompt, {"loaders": 2, "Encode": 1, "Apply": 1})
        yield timed("nothing changed", client, prompt, {"loaders": 0, "Encode": 0, "Apply": 0})
        for what, kind, name, value, encodes, applies in CHANGES:
            (node,) = of_type(prompt, kind).values()
            node["inputs"][name] = value
            yield timed(what, client, prompt, {"loaders": 0, "Encode": encodes, "Apply": applies})


def timed(what: str, client: Client, prompt: dict, promised: dict[str, int]) -> Result:
    """Count the runs of nodes, and the seconds from queue to PNG."""
    begin = time.perf_counter()
    run = client.run(prompt)
    for image in run.images():
        client.download(image)
    in_all = time.perf_counter() - begin

    def runs(*kinds: str) -> int:
        return len(of_type(prompt, *kinds).keys() - set(run.cached))

    def seconds(*kinds: str) -> float:
        return sum(run.seconds.get(node_id, 0.0) for node_id in of_type(prompt, *kinds))

    parts = {"load s": LOADERS, "encode s": (ENCODE,), "sample s": (SAMPLE,), "decode s": (DECODE,)}
    times = {name: seconds(*kinds) for name, kinds in parts.items()}
    values = {"loaders": runs(*LOADERS), "Encode": runs(ENCODE), "Apply": runs(APPLY), **times}
    return Result(what, {**values, "rest s": in_all - sum(times.values()), "queue to PNG s": in_all}, promised)
