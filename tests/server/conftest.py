"""One running ComfyUI, with the pack and the stand-in models, for all tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyhost.client import Client
from comfyhost.photo import write_photo
from comfyhost.server import ComfyServer
from comfyhost.standins import put_in_place

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests on one worker (pytest -n with --dist loadgroup), so that one server starts."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("server"))


@pytest.fixture(scope="session")
def server() -> ComfyServer:
    """A started server; stopped after the last test."""
    put_in_place()
    with ComfyServer() as running:
        yield running


@pytest.fixture
def client(server: ComfyServer) -> Client:
    """A connection of the test's own to the server."""
    with Client(server.url) as connected:
        yield connected


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, dict]:
    """Every node type the server knows."""
    with Client(server.url) as connected:
        return connected.object_info()


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photograph, as PNG."""
    path = tmp_path_factory.mktemp("photo") / "example.png"
    write_photo(path)
    return path
