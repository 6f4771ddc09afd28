"""The instructions that a trained file names."""

from __future__ import annotations

import json

import pytest
from ipadapter_instruct.models.adapter.checkpoint import look_at, read_checkpoint, recognise
from ipadapter_instruct.models.adapter.trained_files import (
    LONGEST_INSTRUCTION,
    MOST_INSTRUCTIONS,
    instructions_in,
    metadata_of,
    write_adapter,
)
from ipadapter_instruct.models.guidance.tasks import is_among
from support.small_files import adapter_tensors


def test_what_was_noted_is_found_again_once_each_in_its_order():
    texts = ["use the brush strokes", "take them", "use the brush strokes", "nimm die Pinselstriche – so"]
    assert instructions_in(metadata_of(texts)) == ("use the brush strokes", "take them", texts[-1])


def test_nothing_trained_is_not_noted():
    assert metadata_of([]) == {}
    assert instructions_in({}) == ()


def test_a_files_head_stays_small():
    given = [*(f"use {n}" for n in range(2 * MOST_INSTRUCTIONS)), "x" * (LONGEST_INSTRUCTION + 1)]
    noted_down = instructions_in(metadata_of(given))
    assert len(noted_down) == MOST_INSTRUCTIONS
    assert instructions_in(metadata_of(["x" * (LONGEST_INSTRUCTION + 1), "use it"])) == ("use it",)


TOO_LONG = json.dumps(["x" * (LONGEST_INSTRUCTION + 1)])


@pytest.mark.parametrize(
    "text", ["", "{", "7", "null", '{"a": "b"}', "[1, null, []]", "[" * 100_000, "1" * 9_999, TOO_LONG]
)
def test_another_programs_entry_of_the_same_name_is_passed_over(text):
    assert instructions_in({"instructions": text}) == ()
    assert recognise(adapter_tensors("sd15"), "a.safetensors", {"instructions": text}).instructions == ()


def test_a_head_with_far_too_many_is_read_so_far():
    assert len(instructions_in({"instructions": json.dumps(["use it"] * 10 * MOST_INSTRUCTIONS)})) == MOST_INSTRUCTIONS


def test_instructions_are_compared_without_case_and_space_around_them():
    assert is_among("  Use the Brush strokes\n", ["use the brush Strokes "])
    assert not is_among("use the brush", ["use the brush strokes"])


def test_a_written_adapter_tells_its_instructions_and_so_do_its_names_alone(tmp_path):
    path = tmp_path / "trained.safetensors"
    write_adapter(adapter_tensors("sd15"), path, "for a test", ["use the brush strokes"])
    assert read_checkpoint(path).instructions == look_at(path).instructions == ("use the brush strokes",)
    write_adapter(adapter_tensors("sd15"), path, "for a test")
    assert read_checkpoint(path).instructions == ()
