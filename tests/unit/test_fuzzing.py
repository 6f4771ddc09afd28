"""The fuzzer of tools/fuzzing: a few hundred of its inputs, and that it would notice what it looks for."""

import json
import mmap
import os
import pickle
import re
import subprocess
import sys
import time
import zlib
from collections import Counter

import pytest
from comfyhost.in_process import pack_module
from comfyhost.places import TOOLS
from fuzzing import valid_files
from fuzzing.inputs import Input, make
from fuzzing.pool import Plan, outcomes
from fuzzing.trial import (
    CHANGED,
    CODE_RAN,
    CRASH,
    FAULTS,
    HANG,
    LOAD,
    MEMORY,
    OTHER_ERROR,
    POOR_MESSAGE,
    REFUSAL,
    attempt,
)
from fuzzing.valid_files import FILES

SEED, INPUTS = 7, 400
FEW = 12


@pytest.fixture(autouse=True)
def back_in_its_folder():
    before = os.getcwd()
    yield
    os.chdir(before)


def valid(file: str = "base", container: str = "safetensors", reader: str = "adapter") -> Input:
    return Input(reader, file, "valid", "adapter.safetensors", valid_files.valid(file, container))


def verdicts(**plan) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for index, outcome in outcomes(Plan(SEED, FEW, **plan)):
        found.setdefault(outcome.verdict, set()).add(index)
    return found


def test_each_of_some_hundred_inputs_ends_in_a_load_or_in_a_good_refusal():
    found = dict(outcomes(Plan(SEED, INPUTS)))
    assert {index: outcome for index, outcome in found.items() if outcome.verdict in FAULTS} == {}
    assert sorted(found) == list(range(INPUTS))
    counts = Counter(outcome.verdict for outcome in found.values())
    assert counts[LOAD] > INPUTS / 10
    assert counts[REFUSAL] > INPUTS / 3
    assert len({re.sub(r"\d[\d,.]*", "N", outcome.message) for outcome in found.values()}) > 50


@pytest.mark.parametrize(("reader", "file"), [(reader, file) for reader, files in FILES.items() for file in files])
def test_what_is_spoilt_was_valid(reader, file, tmp_path):
    assert attempt(valid(file, reader=reader), tmp_path).verdict == LOAD


def test_an_input_is_the_same_whenever_and_wherever_it_is_made():
    code = "import zlib, fuzzing.inputs as f; print([zlib.crc32(f.make(7, i).content) for i in range(40)])"
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "PYTHONHASHSEED": "random"}
    elsewhere = subprocess.run(command, env=environment, capture_output=True, check=True)
    here = [zlib.crc32(make(7, index).content) for index in range(40)]
    assert json.loads(elsewhere.stdout) == here
    assert len(set(here)) > 30


def test_an_exception_that_is_not_the_packs_is_noticed(tmp_path, monkeypatch):
    def spoilt(path):
        raise KeyError("latents")

    monkeypatch.setattr(pack_module("models.adapter.checkpoint"), "read_file", spoilt)
    outcome = attempt(valid(), tmp_path)
    assert outcome.verdict == OTHER_ERROR
    assert "KeyError: 'latents'" in outcome.message


def test_a_value_error_without_the_packs_own_class_is_noticed(tmp_path, monkeypatch):
    def spoilt(path):
        raise ValueError("some numbers were expected. Download it again.")

    monkeypatch.setattr(pack_module("models.adapter.checkpoint"), "read_file", spoilt)
    assert attempt(valid(), tmp_path).verdict == OTHER_ERROR


@pytest.mark.parametrize("message", ["it is wrong", "tensors were expected", "expected. Choose " + "x" * 2000, "\x1b"])
def test_a_refusal_that_says_too_little_or_too_much_is_noticed(tmp_path, monkeypatch, message):
    def spoilt(path):
        raise pack_module("models.files.tensor_files").AdapterFileError(message)

    monkeypatch.setattr(pack_module("models.adapter.checkpoint"), "read_file", spoilt)
    assert attempt(valid(), tmp_path).verdict == POOR_MESSAGE


def test_an_adapter_that_loads_and_cannot_make_tokens_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pack_module("models.adapter.image_projections").LinearProjection, "forward", lambda self, x: x.missing
    )
    assert attempt(valid(), tmp_path).verdict == OTHER_ERROR
    assert attempt(valid(), tmp_path, compute=False).verdict == LOAD


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("command", ["touch canary", "true"], ids=["a file is created", "a command is run"])
def test_code_that_runs_is_noticed(tmp_path, monkeypatch, command):
    monkeypatch.setattr(pack_module("models.files.pickled_files"), "_check_container", lambda path: None)
    monkeypatch.setattr(pack_module("models.files.pickled_files").torch, "load", _careless)
    given = Input("adapter", "base", "code", "adapter.bin", pickle.dumps({"a": Payload(command)}))
    assert attempt(given, tmp_path).verdict == CODE_RAN
    assert not (tmp_path / "canary").exists()


def _careless(path, **options):
    return pickle.loads(path.read_bytes())


@pytest.mark.parametrize(
    "write",
    [lambda path: path.write_bytes(b"other"), lambda path: path.with_suffix(".lock").touch()],
    ids=["the file", "another beside it"],
)
def test_a_reader_that_writes_is_noticed(tmp_path, monkeypatch, write):
    checkpoints = pack_module("models.adapter.checkpoint")
    reader = checkpoints.read_file
    monkeypatch.setattr(checkpoints, "read_file", lambda path: (write(path), reader(path))[1])
    assert attempt(valid(), tmp_path).verdict == CHANGED


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is watched on Linux only")
def test_memory_that_the_file_does_not_account_for_is_noticed(tmp_path, monkeypatch):
    reader = pack_module("models.adapter.checkpoint").read_file
    # A mapping of its own: room in the heap that an earlier test left would be taken without the process growing.
    monkeypatch.setattr(
        pack_module("models.adapter.checkpoint"), "read_file", lambda path: resident(2**29) and reader(path)
    )
    assert attempt(valid(), tmp_path).verdict == MEMORY


def resident(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)


def test_an_input_that_ends_the_process_is_named_and_the_others_are_tried(monkeypatch):
    monkeypatch.setattr(Plan, "attempt", _spoilt_at(4, lambda: os._exit(3)))
    found = verdicts(processes=2)
    assert found.pop(CRASH) == {4}
    assert set.union(*found.values()) == set(range(FEW)) - {4}
    assert not set(found) & set(FAULTS)


def test_an_input_that_hangs_is_named_and_the_others_are_tried(monkeypatch):
    monkeypatch.setattr(Plan, "attempt", _spoilt_at(4, lambda: time.sleep(60)))
    found = verdicts()
    assert found.pop(HANG) == {4}
    assert set.union(*found.values()) == set(range(FEW)) - {4}


def _spoilt_at(index, act):
    whole = Plan.attempt

    def spoilt(self, at, folder):
        if at == index:
            act()
        return whole(self, at, folder)

    return spoilt
