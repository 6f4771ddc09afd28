"""The arguments that a server is started with. None is started here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyhost import server
from comfyhost.places import Host
from comfyhost.server import ComfyServer, has_accelerator


def command(tmp_path: Path, users_own: bool) -> list[str]:
    """The command line for a ComfyUI in `tmp_path`."""
    comfyui = ComfyServer(Host(tmp_path, Path(sys.executable), tmp_path / "models", users_own))
    comfyui.base, comfyui.port = tmp_path, 1
    return comfyui.command()


@pytest.mark.parametrize(
    ("users_own", "accelerated", "on_cpu"),
    [(False, True, True), (True, True, False), (True, False, True)],
    ids=["the installed one", "a user's own with a GPU", "a user's own without"],
)
def test_only_a_users_own_comfyui_with_a_gpu_is_left_to_choose(tmp_path, monkeypatch, users_own, accelerated, on_cpu):
    monkeypatch.setattr(server, "has_accelerator", lambda python: accelerated)
    assert ("--cpu" in command(tmp_path, users_own)) is on_cpu


@pytest.mark.parametrize(
    ("answer", "found"), [("echo a warning; echo True", True), ("echo False", False), ("exit 1", False)]
)
def test_the_python_that_runs_comfyui_says_whether_it_has_a_gpu(tmp_path, answer, found):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    has_accelerator.cache_clear()  # what another python of this name has said
    assert has_accelerator(python) is found


def test_a_python_that_cannot_be_started_has_no_gpu(tmp_path):
    assert not has_accelerator(tmp_path / "absent")


def test_idle_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert ComfyServer().environment["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert ComfyServer().environment["OMP_WAIT_POLICY"] == "ACTIVE"
