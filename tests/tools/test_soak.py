"""The soak's prompts, its files and its verdict; `make soak` runs the whole on a server."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from comfyhost.prompt_builder import ApiPrompt
from ipadapter_instruct.commands.servers.client import Client
from PIL import Image
from safetensors.torch import save_file
from soak.__main__ import of_log
from soak.files import ADAPTERS, CHANGES, EMBEDS, FACES, GONE, OTHER, TOUCHED, Adapter, Files, Stored
from soak.memory import Level, rollup
from soak.player import DISTANCE, Player
from soak.tried_values import NODES, PACK
from soak.verdict import (
    BROKEN,
    DONE,
    INTERRUPTED,
    REFUSED,
    Outcome,
    Verdict,
    digest,
    files_of,
    is_pack_error,
    why_unsound,
)

OFFERED = {"sampler_name": ["euler", "ddim"], "scheduler": ["normal", "kl_optimal"]}
OTHER_A = Adapter("sd15", "instruct", 101)
EMBEDS_OF_A = {name: Stored(name, ADAPTERS["instruct-a.bin"]) for name in EMBEDS}
AT_FIRST = {**ADAPTERS, **EMBEDS_OF_A, **{name: Stored(name) for name in FACES}}
SOAKED = {
    kind: {name: (group == "required", type_, more) for group, name, type_, more in node["inputs"]}
    for kind, node in NODES.items()
    if kind != f"{PACK}Train"
}
# What is another on each server; the schema has examples.
OF_THE_SERVER = ("adapter_name", "image_encoder", "text_encoder", "file", "sampler_name", "scheduler")
# What other packs' nodes, hooks or newer versions of ComfyUI bring.
FROM_ELSEWHERE = ("embeds", "neg_embeds", "curve", "hook_keyframes", "face_analysis")
PLAIN = {"STRING": str, "INT": int, "FLOAT": (int, float), "BOOLEAN": bool}
# The types of what ComfyUI's own nodes give to the pack's.
CORE = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "CLIPVisionEncode": ("CLIP_VISION_OUTPUT",),
    "EmptyLatentImage": ("LATENT",),
    "EmptySD3LatentImage": ("LATENT",),
    "ImageBatch": ("IMAGE",),
    "LoadImage": ("IMAGE", "MASK"),
    "LoraLoader": ("MODEL", "CLIP"),
    "RepeatLatentBatch": ("LATENT",),
    "VAEDecode": ("IMAGE",),
}


class Still(Client):
    """A client of a server that offers two samplers and two schedulers, and can be interrupted."""

    def object_info(self):
        return {"KSampler": {"input": {"required": {name: (names,) for name, names in OFFERED.items()}}}}

    def post(self, path: str):
        assert path == "/interrupt"


class Playing(Player):
    """A player without a server: acts are written down, and every prompt is done at once, or interrupted."""

    def __init__(self, seed: int, number: int):
        self.acts = []
        super().__init__(None, [Still("nowhere")] * 2, StillFiles(), seed)
        self.play(number)

    def queue(self, prompt):
        self.prompts.append(prompt)
        self.pending.append(prompt)
        self.acts.append(("queued", prompt))

    def settle(self, interrupted: bool = False):
        self.pending, self.seconds = [], [0.0]
        self.acts.append(("interrupted" if interrupted else "settled",))

    def measure(self):
        self.levels.append(Level(len(self.prompts), 0.0, {}))


class StillFiles:  # which only count their changes
    def __init__(self):
        self.state, self.changes, self.changed = AT_FIRST, [], list

    def change(self, name, how):
        self.changes.append(how)


PROMPTS = Playing(1, 300).prompts


def problems(prompt: ApiPrompt) -> list[str]:
    """Return what a server would refuse of the pack's nodes, and links that lead nowhere or to another type."""
    found = []
    for node in prompt.values():
        known = SOAKED.get(node["class_type"], {})
        found += [f"{name} is missing" for name, (must, _, _) in known.items() if must and name not in node["inputs"]]
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] not in prompt:
                found.append(f"{name} is linked to nothing")
            elif known and name not in known:
                found.append(f"it has no {name}")
            elif known and not fits(prompt, name, value, *known[name][1:]):
                found.append(f"{name} ({known[name][1]}) cannot be {value!r}")
    return found


def fits(prompt: ApiPrompt, name: str, value, type_: str, options: dict) -> bool:
    if isinstance(value, list):
        kind = prompt[value[0]]["class_type"]
        given = CORE.get(kind) or [output[1] for output in NODES[kind]["outputs"]]
        return given[value[1]] in type_.split(",")
    if type_ == "COMBO":
        return isinstance(value, str) and (name in OF_THE_SERVER or value in options["options"])
    if not isinstance(value, PLAIN.get(type_, ())):
        return False
    return options.get("min", value) <= value <= options.get("max", value) if type_ in ("INT", "FLOAT") else True


def test_a_seed_gives_the_same_run_and_another_one_another():
    assert Playing(1, 60).acts == Playing(1, 60).acts != Playing(2, 60).acts
    assert len(PROMPTS) == 300


def test_every_prompt_is_valid_by_the_nodes_schemas():
    assert [problem for prompt in PROMPTS for problem in problems(prompt)] == []


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"image": None}, "image is missing"),
        ({"images": 3}, "it has no images"),
        ({"max_tiles": 99}, "max_tiles (INT) cannot be 99"),
        ({"image": ["1", 1]}, "image (IMAGE) cannot be ['1', 1]"),
        ({"image": ["7", 0]}, "image is linked to nothing"),
    ],
)
def test_what_is_wrong_with_a_graph_is_found(inputs, problem):
    right = {"image": ["1", 0], "max_tiles": 2, "overlap": 0.1, "whole": True}
    given = {name: value for name, value in {**right, **inputs}.items() if value is not None}
    graph = ApiPrompt({"1": {"class_type": "LoadImage", "inputs": {"image": "wide.png"}}})
    graph["2"] = {"class_type": f"{PACK}Tile", "inputs": given}
    assert problems(graph) == [problem]


def uses(name: str, required: bool, type_: str, options: dict) -> set[str]:
    """Return what can be told apart of an input: a combo's choices, both of a switch, given or left as it is."""
    if type_ == "COMBO" and name not in OF_THE_SERVER:
        return set(options["options"])
    if type_ == "BOOLEAN":
        return {"True", "False"}
    return {"given"} if required else {"given", "left"}


def test_a_run_uses_every_node_and_nearly_every_option():
    nodes = [node for prompt in PROMPTS for node in prompt.values() if node["class_type"] in SOAKED]
    assert {node["class_type"] for node in nodes} == SOAKED.keys()
    every = {(kind, n, use) for kind, inputs in SOAKED.items() for n, i in inputs.items() for use in uses(n, *i)}
    used = set()
    for node in nodes:
        for name, (_, _, options) in SOAKED[node["class_type"]].items():
            value = node["inputs"].get(name)
            shown = str(options.get("default") if value is None else value)
            used |= {(node["class_type"], name, use) for use in (shown, "left" if value is None else "given")}
    unused = {one for one in every - used if one[1] not in FROM_ELSEWHERE}
    assert len(unused) < 0.05 * len(every), unused


def test_two_runs_use_every_file():
    prompts = [*PROMPTS, *Playing(2, 300).prompts]
    assert {name for prompt in prompts for name in files_of(prompt, AT_FIRST)} == AT_FIRST.keys()


def test_a_share_of_the_prompts_are_earlier_ones_with_others_in_between():
    near = [PROMPTS[max(number - DISTANCE, 0) : number] for number in range(len(PROMPTS))]
    apart = [n for n, prompt in enumerate(PROMPTS) if prompt in PROMPTS[:n] and prompt not in near[n]]
    assert 0.15 < len(apart) / len(PROMPTS) < 0.4


def test_a_run_has_every_act_and_every_change_and_looks_at_the_memory():
    run = Playing(1, 120)
    assert {act[0] for act in run.acts} == {"queued", "settled", "interrupted"}
    assert set(run.files.changes) == set(CHANGES)
    assert [level.prompts for level in run.levels] == [30, 50, 100, 120]


def applying(name: str, *others: str) -> ApiPrompt:
    return next(p for p in PROMPTS if files_of(p, AT_FIRST) == sorted([name, *others]))


def test_a_refusal_is_expected_just_where_a_file_does_not_fit():
    prompt = applying("instruct-a.bin")
    assert why_unsound(prompt, AT_FIRST) == ""
    assert why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": OTHER_A}) == ""
    assert "not there" in why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": None})
    assert "is for sd3" in why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": ADAPTERS["3-instruct-b.bin"]})


def test_stored_embeds_fit_the_adapter_that_made_them_alone():
    prompt, name, file = applying("instruct-a.bin", EMBEDS[0]), "instruct-a.bin", EMBEDS[0]
    assert why_unsound(prompt, AT_FIRST) == ""
    assert why_unsound(prompt, {**AT_FIRST, name: OTHER_A}) != ""
    assert why_unsound(prompt, {**AT_FIRST, file: None}) != ""


def verdict_of(*outcomes: Outcome, interrupted: bool = False, states=(AT_FIRST, AT_FIRST)) -> Verdict:
    verdict = Verdict()
    for number, outcome in enumerate(outcomes):
        verdict.take(number, WATCHED, outcome, states[number], interrupted)
    return verdict


WATCHED = next(p for p in PROMPTS if files_of(p, AT_FIRST) == ["instruct-a.bin"] and f"{PACK}Watch" in str(p))
MADE = Outcome(DONE, made={"1 SaveImage": {"file": "a"}})
AGAIN = Outcome(DONE, made={"1 SaveImage": {"another file": "a"}})
OTHERWISE = Outcome(DONE, made={"1 SaveImage": {"file": "b"}})
GONE_NOW = {**AT_FIRST, "instruct-a.bin": None}
CHANGED = (AT_FIRST, {**AT_FIRST, "instruct-a.bin": OTHER_A})


@pytest.mark.parametrize(
    ("verdict", "complaints", "compared"),
    [
        (verdict_of(MADE, AGAIN), 0, 1),
        (verdict_of(MADE, OTHERWISE), 1, 1),
        (verdict_of(Outcome(DONE)), 1, 0),
        (verdict_of(Outcome(BROKEN, "RuntimeError")), 1, 0),
        (verdict_of(Outcome(REFUSED, "no")), 1, 0),
        (verdict_of(Outcome(REFUSED, "no"), states=[GONE_NOW]), 0, 0),
        (verdict_of(MADE, states=[GONE_NOW]), 1, 0),
        (verdict_of(Outcome(INTERRUPTED)), 1, 0),
        (verdict_of(Outcome(INTERRUPTED), interrupted=True), 0, 0),
        (verdict_of(MADE, OTHERWISE, states=CHANGED), 0, 0),
        (verdict_of(MADE, AGAIN, states=CHANGED), 1, 0),
    ],
    ids=[
        "the same again",
        "another picture",
        "nothing made",
        "a node broke",
        "refused without a reason",
        "refused for a file that is gone",
        "not refused though a file is gone",
        "interrupted by nobody",
        "interrupted",
        "another content of a file is another prompt",
        "the same though a file is another",
    ],
)
def test_the_verdict(verdict, complaints, compared):
    assert len(verdict.complaints) == complaints
    assert verdict.compared == compared


def test_a_digest_looks_at_pixels_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.png", compress_level=0)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "c.png")
    first, same, other = (digest(tmp_path / f"{name}.png") for name in "abc")
    assert first == same != other


def test_a_digest_of_tensors_does_not_depend_on_the_order_of_what_is_said_beside_them(tmp_path):
    tensors, said = {"a": torch.arange(3.0), "b": torch.ones(2)}, {f"word {n}": str(n) for n in range(9)}
    for name in ("a", "b", "c"):
        save_file(tensors, tmp_path / f"{name}.safetensors", said)
    save_file(tensors, tmp_path / "d.safetensors", {**said, "word 0": "another"})
    save_file({**tensors, "b": torch.zeros(2)}, tmp_path / "e.safetensors", said)
    first, *same, beside, other = (digest(tmp_path / f"{name}.safetensors") for name in "abcde")
    assert set(same) == {first}
    assert len({first, beside, other}) == 3


def test_only_the_packs_own_errors_count_as_refusals():
    assert is_pack_error("in execute\n    raise ValueError(\n")
    assert not is_pack_error("in linear\nRuntimeError: mat1 and mat2 shapes cannot be multiplied\n")


def test_a_traceback_of_no_node_is_seen_in_the_log():
    traceback = "Traceback (most recent call last):\n  File x\nKeyError\n"
    failed = (
        f"got prompt\n!!! Exception during processing !!! no\n{traceback}\nThe above:\n{traceback}Prompt executed in 1"
    )
    assert of_log(failed) == []
    assert len(of_log(f"{failed}\n{traceback}Prompt executed in 1")) == 1


def test_memory_is_read_off_what_linux_says():
    text = "55e0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:   1000 kB\nPss_Anon:   500 kB\n"
    assert rollup(text) == {"Rss": 1024.0, "Pss_Anon": 512.0}


def test_stored_files_change_and_go_and_new_ones_take_their_places(tmp_path):
    files = Files(tmp_path)
    for folder in ("kept", "input"):
        (tmp_path / folder).mkdir()
    for number in range(3 * len(EMBEDS)):
        (tmp_path / "made").write_text(str(number))
        files.store(tmp_path / "made", Stored(str(number), ADAPTERS["base.safetensors"]))
        newest = EMBEDS[number % len(EMBEDS)]
        assert files.state[newest] == Stored(str(number), ADAPTERS["base.safetensors"])
        files.change(newest, (TOUCHED, GONE, OTHER)[number % 3])
        for name in EMBEDS:
            content = files.state[name]
            assert files.path(name).is_file() == (content is not None)
            assert content is None or files.path(name).read_text() == content.digest
    assert files.changed() == []
