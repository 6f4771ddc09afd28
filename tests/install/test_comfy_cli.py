"""The verdicts of comfy-cli and comfy-test on the pack, and the files that the former would hand to the registry."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from comfyhost.install import clean_environment, run
from comfyhost.places import REPO_ROOT
from comfyhost.repository import git
from comfyhost.server import ComfyServer
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from ipadapter_instruct.commands.servers.client import Client
from ipadapter_instruct.commands.servers.graph import WorkflowError
from shipped.blueprints import TASKS
from support.newer_nodes import newer_nodes
from support.with_blueprint import with_blueprint

FOR_DEVELOPERS = {
    *(".ci", ".comfyignore", ".github", ".gitignore", "comfy-test.toml", "Makefile", "docs", "tests", "tools"),
    *("ARCHITECTURE.md", "CONTRIBUTING.md"),
}
AT_RUN_TIME = {
    *("__init__.py", "nodes", "models", "js", "workflows", "subgraphs", "commands", "cli.py"),
    *("requirements.txt", "pyproject.toml", "node_list.json", "README.md", "LICENSE"),
}
PARSE = """
import dataclasses, json
from comfy_cli.registry.config_parser import extract_node_configuration
print(json.dumps(dataclasses.asdict(extract_node_configuration())))
"""
CONVERT = """
import json, sys
from pathlib import Path
from comfy_cli.workflow_to_api import convert_ui_to_api
info, *workflows = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
print(json.dumps([convert_ui_to_api(workflow, info) for workflow in workflows]))
"""
WORKFLOWS = sorted((REPO_ROOT / "workflows").glob("*.json"))
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


@pytest.fixture(scope="session")
def object_info(manager_host) -> dict[str, dict]:
    """Every node type of a server with the pack."""
    with ComfyServer() as server, Client(server.url) as client:
        return client.object_info()


def templates_with_subgraphs(object_info: dict[str, dict]) -> Iterator[Path]:
    """ComfyUI's own templates that have subgraphs and no node or value that this server does not know."""
    packages = Path(importlib.util.find_spec("comfyui_workflow_templates").origin).parents[1]
    for path in sorted(packages.glob("comfyui_workflow_templates_media_*/templates/*.json")):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(workflow, dict) and (workflow.get("definitions") or {}).get("subgraphs"):
            with contextlib.suppress(WorkflowError):
                to_prompt(workflow, object_info)
                yield path


def with_blueprints(folder: Path) -> Iterator[Path]:
    for name in TASKS:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(with_blueprint(name)), encoding="utf-8")
        yield path


def test_comfy_cli_makes_the_same_prompts_of_the_shipped_workflows_and_of_subgraphs(
    manager_host, object_info, tmp_path
):
    info, subgraphs = tmp_path / "object_info.json", list(templates_with_subgraphs(object_info))
    info.write_text(json.dumps(object_info), encoding="utf-8")
    workflows = [path for path in WORKFLOWS if newer_nodes(json.loads(path.read_text())).keys() <= object_info.keys()]
    assert workflows and len(subgraphs) >= 5
    paths = [*workflows, *with_blueprints(tmp_path), *subgraphs]
    made = run([manager_host.python, "-c", CONVERT, info, *paths], clean_environment())
    for path, theirs in zip(paths, json.loads(made), strict=True):
        ours = to_prompt(json.loads(path.read_text(encoding="utf-8")), object_info)
        assert theirs == ours, path.name


def test_comfy_test_finds_its_settings_and_nothing_on_the_page_that_disturbs_other_packs(manager_host, repository):
    lint = [manager_host.python, "-m", "comfy_test", "lint", "--check", "javascript", "--strict", "--json"]
    found = json.loads(run([*lint, repository.folder], clean_environment()))
    assert found["config_warning"] is None
    assert found["results"]["javascript"]["summary"] == {"errors": 0, "warnings": 0}
    assert found["results"]["javascript"]["namespaces_declared"]


def test_nothing_is_published_without_the_owners_key():
    workflow = yaml.safe_load((REPO_ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["env"] == {"REGISTRY_ACCESS_TOKEN": "${{ secrets.REGISTRY_ACCESS_TOKEN }}"}
    assert {step["if"] for step in job["steps"]} == {"env.REGISTRY_ACCESS_TOKEN != ''"}
