"""ComfyUI-Manager, inside the server and by its command line, takes the pack from the registry."""

from __future__ import annotations

import json
import time
import uuid

from comfyhost.places import REPO_ROOT, TOOLS
from ipadapter_instruct.commands.servers.client import Client
from support.patience import PATIENCE
from support.servers.manager import ManagedComfyUI

FOLDER = "ipadapter-instruct"
MODELS = json.loads((TOOLS / "registry" / "model-list.json").read_text(encoding="utf-8"))["models"]
NODES = set(json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8")))


def version_in(comfyui: ManagedComfyUI, folder: str = FOLDER) -> str:
    lines = (comfyui.custom_nodes / folder / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def do_task(client: Client, kind: str, **params) -> str:
    """Have Manager do something, as its page does; its word on how it went."""
    name = uuid.uuid4().hex
    task = {"ui_id": name, "client_id": client.client_id, "kind": kind, "params": params}
    client.do(client.request("POST", "/v2/manager/queue/task", json=task))
    client.do(client.request("POST", "/v2/manager/queue/start", json={}))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done = client.do(client.request("GET", "/v2/manager/queue/history"))["history"]
        if name in done:
            return done[name]["result"]
        time.sleep(0.1)
    raise AssertionError(f"Manager did not {kind} within {PATIENCE} s")


def test_the_page_installs_and_updates_it_and_after_a_restart_its_nodes_and_adapters_are_there(
    registered, registry, look
):
    old, new = registry.archives
    registered.start_manager_with_server()
    packages, torch = registered.packages(), registered.torch()
    with registered.server() as server, Client(server.url) as client:
        assert look(client).nodes == {}
        install = {"id": FOLDER, "version": old, "selected_version": old, "mode": "remote", "channel": "default"}
        assert do_task(client, "install", **install) == "success"
        assert version_in(registered) == old
        assert do_task(client, "update", node_name=FOLDER, node_ver=old) == "success"
    with registered.server() as server, Client(server.url) as client:
        seen = look(client)
        installed = client.do(client.request("GET", "/v2/customnode/installed"))
        assert [do_task(client, "install-model", **model) for model in MODELS] == ["success"] * len(MODELS)
        offered = client.object_info()["IPAdapterInstructLoader"]["input"]["required"]["adapter_name"]
    assert version_in(registered) == new
    assert set(seen.nodes) == NODES
    assert {node["python_module"] for node in seen.nodes.values()} == {f"custom_nodes.{FOLDER}"}
    assert installed[FOLDER] == {"ver": new, "cnr_id": FOLDER, "aux_id": None, "enabled": True}
    assert set(offered[1]["options"]) == {model["filename"] for model in MODELS}
    assert {path.read_bytes() for path in registered.folder.glob("models/ipadapter/*.bin")} == {
        b"sd15",
        b"sdxl",
        b"sd3",
    }
    assert (registered.packages(), registered.torch()) == (packages, torch)


def test_the_command_line_installs_switches_disables_enables_and_removes_it(registered, registry):
    old, new = registry.archives
    registered.manager("install", f"{FOLDER}@{old}")
    assert (registered.packs(), version_in(registered)) == ([FOLDER], old)
    registered.manager("install", f"{FOLDER}@{new}")
    assert (registered.packs(), version_in(registered)) == ([FOLDER], new)
    registered.manager("disable", FOLDER)
    assert registered.packs() == []
    assert FOLDER in registered.manager("show", "disabled")
    registered.manager("enable", FOLDER)
    assert (registered.packs(), version_in(registered)) == ([FOLDER], new)
    registered.manager("uninstall", FOLDER)
    assert list(registered.custom_nodes.rglob("*instruct*")) == []


def test_the_nightly_version_is_a_clone_under_the_projects_name(registered, repository):
    registered.manager("install", f"{FOLDER}@nightly")
    assert registered.packs() == [FOLDER]
    cloned = registered.custom_nodes / FOLDER
    assert repository.address in (cloned / ".git" / "config").read_text()
    assert (cloned / ".git" / ".cnr-id").read_text() == FOLDER
