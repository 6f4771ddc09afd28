"""Count what runs again when an input changes: encoders in this process, nodes of a shipped workflow on a server.

The server has the small SD1.5 under the published names, with the real ViT-H; its time is told by parts.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from timeit import default_timer

import comfy.sd
import torch
from comfyhost.demo import of_type, prepare
from comfyhost.encoders import clip_l_text
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import ComfyServer
from comfyhost.standins import small_models
from comfyhost.weights import draw
from ipadapter_instruct.commands.servers.api_prompt import read_workflow
from ipadapter_instruct.commands.servers.client import Client
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode

from benchmarks.counting import counted
from benchmarks.models import SMALL, adapter, image_encoder
from benchmarks.report import Result

LANDSCAPE, PORTRAIT = torch.full((1, 256, 320, 3), 0.3), torch.full((1, 320, 256, 3), 0.6)
TEXTS = {"task": OWN_WORDS, "instruction": "use the style", "prompt": "a house", "negative_prompt": "blurry"}
ENCODES = (  # what, changed inputs, promised runs of the image encoder and of the text encoder
    # The first time, one picture is the blank one. Texts: the instruction, the everything branch's, "", both prompts,
    # and for the sampler both prompts once more, as CLIP Text Encode reads them.
    ("first picture", {"image": LANDSCAPE}, 2, 7),
    ("changed instruction", {"instruction": "use the pose"}, 0, 1),
    ("changed prompt", {"prompt": "a boat"}, 0, 2),
    ("changed negative prompt", {"negative_prompt": "dark"}, 0, 2),
    ("changed picture", {"image": PORTRAIT}, 1, 0),
    ("the first picture and instruction again", {"image": LANDSCAPE, "instruction": TEXTS["instruction"]}, 0, 0),
)
LOADERS = ("CheckpointLoaderSimple", "IPAdapterInstructLoader")
ENCODE, APPLY, SAMPLE, DECODE = "IPAdapterInstructEncode", "IPAdapterInstructApply", "KSampler", "VAEDecode"
PARTS = {"load s": LOADERS, "encode s": (ENCODE,), "sample s": (SAMPLE,), "decode s": (DECODE,)}
RUNS = {"loaders": LOADERS, "Encode": (ENCODE,), "Apply": (APPLY,)}
SHORT = {"steps": 4, "width": 128, "height": 128}
CHANGES = (  # what, of which type of node, which input, its new value, promised runs of Encode and of Apply
    ("another seed", SAMPLE, "seed", 12345, 0, 0),
    ("another weight", APPLY, "weight", 0.55, 0, 1),
    ("another guidance", APPLY, "guidance", "simple", 0, 1),
    ("another task", ENCODE, "task", "pose", 1, 1),
    ("another prompt", ENCODE, "prompt", "a harbour in the morning", 1, 1),
    ("another negative prompt", ENCODE, "negative_prompt", "blurry", 1, 1),
)


def encoder_runs() -> Iterator[Result]:
    encoder = image_encoder(num_hidden_layers=3)
    weights = {**draw(clip_l_text(), 0, torch.float16), "text_projection.weight": torch.eye(768)}
    clip = comfy.sd.load_text_encoder_state_dicts([weights])
    loaded = AdapterWithEncoders(adapter(SMALL, torch.float32), clip_vision=encoder)
    inputs = {"adapter": loaded, "clip": clip, **TEXTS}
    text_encoder = clip.cond_stage_model.clip_l.transformer.text_model.encoder
    for what, changed, pictures, texts in ENCODES:
        inputs |= changed
        with counted([encoder.model]) as read, counted([text_encoder]) as written:
            IPAdapterInstructEncode.execute(**inputs)
        runs = {"image encoder": len(read), "text encoder": len(written)}
        yield Result(what, runs, {"image encoder": pictures, "text encoder": texts})


def reruns() -> Iterator[Result]:
    """Promise that the loaders run once, and Encode for its own inputs, but not for what Apply or the sampler take."""
    workflow = read_workflow(REPO_ROOT / "workflows" / "instruct_sd15.json")
    with ComfyServer(replace(host(), models=small_models())) as server, Client(server.url) as client:
        prompt = prepare(workflow, client, SHORT)
        run = partial(timed, client, prompt)
        yield run("first run", loaders=2, Encode=1, Apply=1)
        yield run("nothing changed", loaders=0, Encode=0, Apply=0)
        for what, kind, name, value, encodes, applies in CHANGES:
            (node,) = of_type(prompt, kind).values()
            node["inputs"][name] = value
            yield run(what, loaders=0, Encode=encodes, Apply=applies)


def timed(client: Client, prompt: dict, what: str, **promised: int) -> Result:
    """Count the runs of nodes, and the seconds from queue to PNG."""
    begin = default_timer()
    run = client.run(prompt)
    for image in run.images():
        client.download(image)
    in_all = default_timer() - begin
    nodes = {name: of_type(prompt, *kinds).keys() for name, kinds in {**RUNS, **PARTS}.items()}
    runs = {name: len(nodes[name] - set(run.cached)) for name in RUNS}
    times = {name: sum(run.seconds.get(node_id, 0.0) for node_id in nodes[name]) for name in PARTS}
    return Result(what, {**runs, **times, "rest s": in_all - sum(times.values()), "queue to PNG s": in_all}, promised)
