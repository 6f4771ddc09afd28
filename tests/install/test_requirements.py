"""The packages that pip would install for the pack in an environment that has ComfyUI's packages only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyhost.environments import site_packages
from comfyhost.install import clean_environment, run
from comfyhost.places import REPO_ROOT, Host

# What open_clip_torch brings, by the names in site-packages, beside what ComfyUI has anyway.
BROUGHT = ("open_clip", "timm", "ftfy", "wcwidth")


@pytest.fixture
def python_without_open_clip(manager_host: Host, tmp_path: Path) -> Path:
    """A python that sees torch and all the rest of ComfyUI's packages, but not what the pack requires."""
    run([manager_host.python, "-m", "venv", tmp_path / "venv"], clean_environment())
    python, seen = tmp_path / "venv" / "bin" / "python", tmp_path / "seen"
    seen.mkdir()
    for path in site_packages(hosts_python(manager_host)).iterdir():
        if not path.name.startswith(BROUGHT):
            (seen / path.name).symlink_to(path)
    (site_packages(python) / "comfyui.pth").write_text(f"{seen}\n", encoding="utf-8")
    return python


def hosts_python(manager_host: Host) -> Path:
    """The python of ComfyUI's own environment, whose packages Manager's python sees."""
    (link,) = site_packages(manager_host.python).glob("comfyui.pth")
    return Path(link.read_text(encoding="utf-8").strip()).parents[2] / "bin" / "python"


def test_only_open_clip_and_what_it_brings_would_be_added_and_nothing_replaced(python_without_open_clip):
    requirements = REPO_ROOT / "requirements.txt"
    command = ["-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "-r", requirements]
    said = run([python_without_open_clip, *command], clean_environment())
    report = json.loads(said[said.index("{") : said.rindex("}") + 1])
    names = {entry["metadata"]["name"].lower().replace("-", "_") for entry in report["install"]}
    assert "open_clip_torch" in names
    # This new environment brings an older setuptools than torch asks for, which hides the one that is there.
    assert names <= {"open_clip_torch", "timm", "ftfy", "wcwidth", "setuptools"}
