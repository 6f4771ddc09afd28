"""Clean copies of ComfyUI, and the pack as a git repository and as a registry that they install it from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfyhost.install import run
from comfyhost.places import Host, ToolError, host
from comfyhost.repository import git_alone
from ipadapter_instruct.commands.servers.client import Client
from ipadapter_instruct.models.families import FAMILIES
from support.servers.manager import ManagedComfyUI, Repository, set_up_manager
from support.servers.registry import Registry

VERSIONS = ("90.0.0", "91.0.0")
COMFY = ("-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry")


@dataclass(frozen=True)
class Seen:
    """The parts that a page would get from a server: the pack's nodes, scripts and templates, by their addresses."""

    nodes: dict[str, dict]
    scripts: set[str]
    templates: dict[str, list[str]]


@pytest.fixture(scope="session")
def manager_host() -> Host:
    """The ComfyUI in the cache folder, with the python that has Manager and comfy-cli."""
    if host().users_own:
        pytest.skip("nothing is installed into a user's own ComfyUI (COMFYUI_PATH)")
    return set_up_manager()


@pytest.fixture(scope="session")
def comfy(manager_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run comfy-cli in a folder; what it said."""
    home = tmp_path_factory.mktemp("home")

    def call(folder: Path, *words: str) -> str:
        environment = {**git_alone(), "HOME": str(home), "NO_COLOR": "1", "COLUMNS": "500"}
        return run([manager_host.python, *COMFY, *words], environment, folder)

    return call


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """The pack, as it is in the working tree, at the address it is published under."""
    return Repository(tmp_path / "published")


@pytest.fixture
def clean(tmp_path: Path, manager_host: Host, repository: Repository) -> ManagedComfyUI:
    """ComfyUI without any pack."""
    return ManagedComfyUI.make(tmp_path / "ComfyUI", manager_host, repository.environment)


@pytest.fixture
def cloned(clean: ManagedComfyUI, repository: Repository) -> ManagedComfyUI:
    """ComfyUI with the pack installed from its git address."""
    clean.manager("install", repository.address)
    return clean


@pytest.fixture(scope="session")
def archives(comfy: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions of the pack as comfy-cli packs them for the registry."""
    folder = tmp_path_factory.mktemp("archives")
    repository = Repository(folder / "tree")
    made = {}
    for version in VERSIONS:
        repository.set_version(version)
        comfy(repository.folder, "node", "pack")
        made[version] = Path(shutil.move(repository.folder / "node.zip", folder / f"{version}.zip"))
    return made


@pytest.fixture
def registry(archives: dict[str, Path], repository: Repository) -> Iterator[Registry]:
    """A registry that has the pack in two versions, and stands for Hugging Face with something for each adapter."""
    adapters = {family.url.removeprefix("https://huggingface.co"): family.name.encode() for family in FAMILIES}
    with Registry("ipadapter-instruct", repository.address, archives, adapters).running() as running:
        yield running


@pytest.fixture
def registered(clean: ManagedComfyUI, registry: Registry) -> ManagedComfyUI:
    """ComfyUI without any pack, whose Manager has that registry's list."""
    addresses = {"REGISTRY": registry.url, "HF_ENDPOINT": registry.url}
    comfyui = ManagedComfyUI(clean.folder, clean.host, {**clean.environment, **addresses})
    assert registry.pack in comfyui.manager("show", "not-installed", "--mode", "remote")
    return comfyui


@pytest.fixture(scope="session")
def look() -> Callable[[Client], Seen]:
    """The parts that a server has of a pack, whatever its folder is called."""

    def call(client: Client) -> Seen:
        info = client.object_info()
        ours = {name: node for name, node in info.items() if node["python_module"].startswith("custom_nodes.")}
        scripts = client.do(client.request("GET", "/extensions"))
        templates = client.do(client.request("GET", "/workflow_templates"))
        return Seen(ours, {path for path in scripts if not path.startswith("/extensions/core/")}, templates)

    return call


@pytest.fixture
def seen_by_a_page(look) -> Callable[[ManagedComfyUI], Seen]:
    """Start a server, look, and stop it."""

    def call(comfyui: ManagedComfyUI) -> Seen:
        with comfyui.server() as server, Client(server.url) as client:
            log = server.log_text()
            if "IMPORT FAILED" in log or "Unable to parse pyproject.toml" in log:
                raise ToolError(f"The pack was not taken as it should be. {server.log_tail()}")
            return look(client)

    return call
