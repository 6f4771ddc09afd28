"""cli.py pairs when something stops it: a server that dies, a kill, Ctrl-C, a full disk, another command beside it."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from comfyhost.places import host
from comfyhost.server import ComfyServer
from comfyhost.standins import small_models
from ipadapter_instruct.models.training.pairs import read_pairs
from support.patience import PATIENCE
from support.servers.pair_sets import command, draw, lines, pairs, pixels

MANY = 24


@pytest.fixture
def second(small_server) -> Iterator[ComfyServer]:
    with ComfyServer(replace(host(), models=small_models())) as running:
        yield running


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture(scope="module")
def undisturbed(small_server, many, tmp_path_factory) -> Path:
    """The pairs that one server makes when nothing disturbs it."""
    output = tmp_path_factory.mktemp("undisturbed") / "pairs"
    done = pairs("object", many, output, "--held-out", "3", servers=[small_server])
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{MANY} of {MANY} done" in done.stderr
    return output


def content(output: Path) -> dict[str, bytes]:
    """All files that a set is, and the pixels of its pictures, but for what says how it came about."""
    kept = [path for path in sorted(output.rglob("*")) if path.is_file() and "journal" not in path.name]
    return {
        path.relative_to(output).as_posix(): pixels(path).tobytes() if path.suffix == ".png" else path.read_bytes()
        for path in kept
    }


def test_two_servers_of_which_one_is_killed_make_the_same_set(small_server, second, many, undisturbed, tmp_path):
    arguments = command("object", many, tmp_path / "pairs", "--held-out", "3", servers=[second, small_server])
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        wait_for_lines(tmp_path / "pairs" / "object" / "journal.jsonl", 4)
        second.process.kill()
        output, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, errors[-2000:]
    assert f"ComfyUI at {second.url} does not answer" in errors
    assert content(tmp_path / "pairs") == content(undisturbed)


def test_a_command_that_is_killed_goes_on_to_the_same_set(small_server, many, undisturbed, tmp_path):
    arguments = command("object", many, tmp_path / "pairs", "--held-out", "3", servers=[small_server])
    journal = tmp_path / "pairs" / "object" / "journal.jsonl"
    for number in (3, 9, 15):
        with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
            wait_for_lines(journal, number)
            running.kill()
        assert number <= len(lines_of(journal)) < MANY
    before = len(lines_of(journal))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert content(tmp_path / "pairs") == content(undisturbed)
    assert len(lines_of(journal)) == MANY, "nothing was done twice"
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0 and len(lines_of(journal)) == MANY and before >= 15


def test_ctrl_c_stops_it_with_words_and_lists_what_is_there(small_server, many, tmp_path):
    arguments = command("object", many, tmp_path / "pairs", servers=[small_server])
    running = subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    with running:
        wait_for_lines(tmp_path / "pairs" / "object" / "journal.jsonl", 3)
        running.send_signal(signal.SIGINT)
        errors = running.communicate(timeout=PATIENCE)[1]
    assert running.returncode == 130 and "Run the same command again to go on" in errors
    there = len(lines(tmp_path / "pairs" / "pairs.jsonl"))
    assert 2 <= there < MANY, "the one that was just being noted may come later"
    assert len(read_pairs(tmp_path / "pairs")) == there


def wait_for_lines(journal: Path, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(lines_of(journal)) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines() if journal.is_file() else []


def test_a_disk_that_takes_no_more_ends_it_and_nothing_is_lost(small_server, many, tmp_path):
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    arguments = command("object", many, tmp_path / "pairs", servers=[small_server])
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=small_files)
    assert done.returncode == 1 and "run the same command again, and it goes on" in done.stderr
    assert "File too large" in done.stderr or "No space left" in done.stderr
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and len(read_pairs(tmp_path / "pairs")) == MANY


def test_two_commands_do_not_work_in_one_folder(small_server, many, tmp_path):
    arguments = command("object", many, tmp_path / "pairs", servers=[small_server])
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        wait_for_lines(tmp_path / "pairs" / "object" / "journal.jsonl", 1)
        other = pairs("object", many, tmp_path / "pairs", servers=[small_server])
        running.kill()
    assert other.returncode == 1 and "Another command works in" in other.stderr
