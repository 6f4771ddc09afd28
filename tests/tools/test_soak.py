"""The soak's generator and its verdict; `make soak` runs the whole on a server."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from soak.catalogue import ADAPTERS, EMBEDS
from soak.generator import DISTANCE, Generator, preparations
from soak.memory import rollup
from soak.player import is_pack_error
from soak.scene import Choices
from soak.schema import Schema
from soak.verdict import BROKEN, DONE, INTERRUPTED, REFUSED, Coverage, Outcome, Verdict, digest, why_unsound
from soak.world import Changes, World

SCHEMA = Schema()
CHOICES = Choices(("euler", "ddim"), ("normal", "kl_optimal"))
PROMPTS = list(Generator(1, CHOICES, SCHEMA).take(300))
AT_FIRST = {**ADAPTERS, **{name: name for name in EMBEDS}}


def test_a_seed_gives_the_same_prompts_and_another_one_others():
    again = list(Generator(1, CHOICES, SCHEMA).take(300))
    assert again == PROMPTS
    assert list(Generator(2, CHOICES, SCHEMA).take(300)) != PROMPTS


def test_every_prompt_is_valid_by_the_nodes_schemas():
    assert [problem for prompt in PROMPTS for problem in SCHEMA.problems(prompt.graph)] == []
    for graph in preparations(SCHEMA, CHOICES).values():
        assert SCHEMA.problems(graph) == []


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
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "square.png"}},
        "2": {"class_type": "IPAdapterInstructTile", "inputs": given},
    }
    if inputs.get("image") == ["7", 0]:
        graph["2"]["class_type"] = "SaveImage"
    assert any(problem in found for found in SCHEMA.problems(graph))


def test_a_run_uses_every_node_and_nearly_every_option():
    coverage = Coverage(SCHEMA)
    for prompt in PROMPTS:
        coverage.take(prompt)
    assert set(coverage.nodes) == set(SCHEMA.nodes)
    every = sum(len(options) for options in coverage.options.values())
    assert len(coverage.unused()) < 0.05 * every


def test_a_share_of_the_prompts_are_earlier_ones_with_others_in_between():
    repeats = [prompt for prompt in PROMPTS if prompt.repeats is not None]
    assert 0.15 < len(repeats) / len(PROMPTS) < 0.35
    for prompt in repeats:
        assert prompt.graph == PROMPTS[prompt.repeats].graph
        assert prompt.number - prompt.repeats >= DISTANCE


def test_two_runs_use_every_adapter():
    prompts = [*PROMPTS, *Generator(2, CHOICES, SCHEMA).take(300)]
    assert {name for prompt in prompts for name, _ in prompt.uses} == set(ADAPTERS)


def applying(name: str, embeds: str | None = None):
    return next(p for p in PROMPTS if p.uses == {(name, None), *([(name, embeds)] if embeds else [])})


def test_a_refusal_is_expected_just_where_a_file_does_not_fit():
    prompt = applying("instruct-a.bin")
    assert why_unsound(prompt, AT_FIRST) == ""
    other = ADAPTERS["instruct-a.bin"].other()
    assert why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": other}) == ""
    assert "not there" in why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": None})
    foreign = ADAPTERS["3-instruct-b.bin"]
    assert "is for sd3" in why_unsound(prompt, {**AT_FIRST, "instruct-a.bin": foreign})


def test_stored_embeds_fit_the_adapter_that_made_them_alone():
    file = next(e for p in PROMPTS for _, e in p.uses if e is not None)
    name = EMBEDS[file].adapter
    prompt = next(p for p in PROMPTS if any(e == file for _, e in p.uses))
    assert why_unsound(prompt, AT_FIRST) == ""
    assert why_unsound(prompt, {**AT_FIRST, name: ADAPTERS[name].other()}) != ""
    assert why_unsound(prompt, {**AT_FIRST, file: None}) != ""


def verdict_of(*outcomes: Outcome, interrupts: int = 0, state=AT_FIRST) -> Verdict:
    verdict = Verdict()
    prompt = applying("instruct-a.bin")
    for number, outcome in enumerate(outcomes):
        again = type(prompt)(number, *(getattr(prompt, n) for n in ("recipe", "family", "graph", "uses", "faces")))
        verdict.take(again, outcome, state, interrupts)
    return verdict


MADE = Outcome(DONE, made={"1 SaveImage": ["a"]})
OTHER = Outcome(DONE, made={"1 SaveImage": ["b"]})
GONE = {**AT_FIRST, "instruct-a.bin": None}


@pytest.mark.parametrize(
    ("verdict", "complaints", "compared"),
    [
        (verdict_of(MADE, MADE), 0, 1),
        (verdict_of(MADE, OTHER), 1, 1),
        (verdict_of(Outcome(DONE)), 1, 0),
        (verdict_of(Outcome(BROKEN, "RuntimeError")), 1, 0),
        (verdict_of(Outcome(REFUSED, "no")), 1, 0),
        (verdict_of(Outcome(REFUSED, "no"), state=GONE), 0, 0),
        (verdict_of(MADE, state=GONE), 1, 0),
        (verdict_of(Outcome(INTERRUPTED)), 1, 0),
        (verdict_of(Outcome(INTERRUPTED), interrupts=1), 0, 0),
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
    ],
)
def test_the_verdict(verdict, complaints, compared):
    assert len(verdict.complaints) == complaints
    assert verdict.compared == compared


def test_another_content_of_a_file_is_another_prompt():
    verdict = verdict_of(MADE)
    changed = {**AT_FIRST, "instruct-a.bin": ADAPTERS["instruct-a.bin"].other()}
    verdict.take(applying("instruct-a.bin"), OTHER, changed, 0)
    assert verdict.complaints == []


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


def test_memory_is_read_off_what_linux_says():
    text = "55e0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:   1000 kB\nPss_Anon:   500 kB\n"
    assert rollup(text) == {"Rss": 1024.0, "Pss_Anon": 512.0}


def test_files_change_and_come_back(tmp_path):
    """On files of embeds, which are small."""
    world = World(tmp_path)
    kept = world.models / ".soak"
    kept.mkdir(parents=True)
    for name in list(EMBEDS)[:3]:
        (tmp_path / "made").write_text(name)
        world.keep_prepared(name, tmp_path / "made")
    changes = Changes(world, random.Random(0))
    for _ in range(60):
        changes.between_prompts(())
        for name, content in world.state.items():
            assert world.path(name).is_file() == (content is not None)
            assert content is None or world.path(name).read_text() == content
    assert {"put back", "touched", "deleted", "instruct file overwritten"} == set(changes.counts)
