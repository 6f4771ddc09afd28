"""What comfy-cli says of the pack, and what it would hand to the registry."""

from __future__ import annotations

import json
import re
import zipfile

import pytest
import yaml
from comfyhost.install import clean_environment
from comfyhost.manager import run
from comfyhost.places import REPO_ROOT
from comfyhost.repository import git

FOR_DEVELOPERS = {
    *(".ci", ".comfyignore", ".github", ".gitignore", "Makefile", "docs", "tests", "tools"),
    *("ARCHITECTURE.md", "CONTRIBUTING.md"),
}
AT_RUN_TIME = {
    *("__init__.py", "nodes", "models", "js", "workflows", "commands", "cli.py"),
    *("requirements.txt", "pyproject.toml", "node_list.json", "README.md", "LICENSE"),
}
PARSE = """
import dataclasses, json
from comfy_cli.registry.config_parser import extract_node_configuration
print(json.dumps(dataclasses.asdict(extract_node_configuration())))
"""
TROUBLE = re.compile("warning|error|not found", re.IGNORECASE)


@pytest.fixture(scope="session")
def published(manager_host, tmp_path_factory) -> dict:
    """pyproject.toml as the registry gets it; comfy-cli says so when it leaves something out."""
    environment = {**clean_environment(), "HOME": str(tmp_path_factory.mktemp("home"))}
    said = run([manager_host.python, "-c", PARSE], environment, REPO_ROOT)
    assert TROUBLE.search(said.partition("{")[0]) is None, said
    return json.loads(said)


def test_the_pack_is_valid_without_a_warning(comfy, repository):
    said = comfy(repository.folder, "node", "validate")
    assert "All validation checks passed" in said
    assert TROUBLE.search(said) is None, said


@pytest.mark.parametrize(
    ("name", "text"),
    [("nodes/bad.py", "eval('1')\n"), ("pyproject.toml", '[project]\nname = "x"\nlicense = {}\nversion = "1.0.0"\n')],
)
def test_what_is_wrong_would_be_said(comfy, repository, name, text):
    (repository.folder / name).write_text(text, encoding="utf-8")
    assert TROUBLE.search(comfy(repository.folder, "node", "validate"))


def test_nothing_in_pyproject_is_dropped(published):
    project = published["project"]
    assert project["name"] == "ipadapter-instruct"
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["supported_os"] == ["OS Independent"]
    accelerators = ["GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "GPU :: Apple Metal"]
    assert project["supported_accelerators"] == accelerators
    assert project["supported_comfyui_version"] == ">=0.3.75"
    assert project["license"]["file"] == "LICENSE"
    assert project["description"]
    lines = (REPO_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert project["dependencies"] == [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("kind", ["repository", "documentation", "issues"])
def test_the_registry_links_to_the_repository(published, kind):
    assert published["project"]["urls"][kind].startswith(published["project"]["urls"]["repository"])


def test_the_registry_knows_publisher_and_title(published):
    assert published["tool_comfy"]["publisher_id"]
    assert published["tool_comfy"]["display_name"] == "IPAdapter-Instruct"


def test_the_archive_has_all_that_runs_and_nothing_for_developers(archives, repository):
    tracked = set(git(repository.folder, "ls-files").splitlines())
    wanted = {name for name in tracked if name.split("/")[0] not in FOR_DEVELOPERS}
    for archive in archives.values():
        with zipfile.ZipFile(archive) as packed:
            assert set(packed.namelist()) == wanted
    assert {name.split("/")[0] for name in wanted} >= AT_RUN_TIME


def test_nothing_is_published_without_the_owners_key():
    workflow = yaml.safe_load((REPO_ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["env"] == {"REGISTRY_ACCESS_TOKEN": "${{ secrets.REGISTRY_ACCESS_TOKEN }}"}
    assert {step["if"] for step in job["steps"]} == {"env.REGISTRY_ACCESS_TOKEN != ''"}
