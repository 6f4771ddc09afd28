"""The environment that Manager and comfy-cli are installed into."""

from __future__ import annotations

import sys

import pytest
from comfyhost import environments
from comfyhost.environments import Environment, site_packages
from comfyhost.places import ToolError
from support.servers import manager


def test_it_is_made_anew_when_a_requirement_or_comfyuis_environment_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("IPADAPTER_INSTRUCT_CACHE", str(tmp_path))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("comfy-cli\n")
    environment = Environment("manager", requirements)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    assert not environment.is_current()
    environment.stamp.write_text(environment.fingerprint())
    assert environment.is_current()
    with monkeypatch.context() as another:
        another.setattr(environments, "fingerprint", lambda: "another ComfyUI")
        assert not environment.is_current()
    requirements.write_text("comfyui-manager\n")
    assert not environment.is_current()
    requirements.write_text("comfy-cli\n")
    assert environment.is_current()
    environment.python.unlink()
    assert not environment.is_current()


def test_nothing_is_installed_beside_a_users_own_comfyui(monkeypatch, tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"COMFYUI_PATH is set\. Unset it"):
        manager.set_up_manager()


def test_it_has_the_torch_of_comfyuis_environment_and_no_other(clean):
    hosts_own = site_packages(manager.set_up().python)
    assert str(hosts_own) in clean.torch()
    assert not (site_packages(clean.host.python) / "torch").exists()


def test_a_command_of_managers_that_fails_says_what_manager_said(clean):
    with pytest.raises(ToolError, match="(?s)cm-cli install no-such-pack failed, saying:.*not found"):
        clean.manager("install", "no-such-pack")
