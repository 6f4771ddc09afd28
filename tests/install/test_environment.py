"""The environment that Manager and comfy-cli are installed into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyhost import manager
from comfyhost.places import ToolError


def test_it_is_made_anew_when_a_requirement_or_comfyuis_environment_changes(monkeypatch, tmp_path):
    stamp, python = tmp_path / "installed.stamp", Path(sys.executable)
    assert not manager.is_current(stamp, python)
    stamp.write_text(manager.manager_fingerprint())
    assert manager.is_current(stamp, python)
    assert not manager.is_current(stamp, tmp_path / "python")
    monkeypatch.setattr(manager, "fingerprint", lambda: "another ComfyUI")
    assert not manager.is_current(stamp, python)
    monkeypatch.undo()
    (tmp_path / "requirements.txt").write_text("comfyui-manager\n")
    monkeypatch.setattr(manager, "MANAGER_REQUIREMENTS", tmp_path / "requirements.txt")
    assert not manager.is_current(stamp, python)


def test_nothing_is_installed_beside_a_users_own_comfyui(monkeypatch, tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"COMFYUI_PATH is set\. Unset it"):
        manager.set_up_manager()


def test_it_has_the_torch_of_comfyuis_environment_and_no_other(clean):
    hosts_own = manager.site_packages(manager.set_up().python)
    assert str(hosts_own) in clean.torch()
    assert not (manager.site_packages(clean.host.python) / "torch").exists()


def test_a_command_of_managers_that_fails_says_what_manager_said(clean):
    with pytest.raises(ToolError, match="(?s)cm-cli install no-such-pack failed, saying:.*not found"):
        clean.manager("install", "no-such-pack")
