"""A small file to download from a real server, and what arrives."""

import os

import pytest
from ipadapter_instruct.models.files.download import DownloadError, Problem, get, plan
from ipadapter_instruct.models.files.published_files import PublishedFile

from support.servers.file_server import Served, ask_here, serving

CONTENT = os.urandom(300_000)
OTHER = os.urandom(300_000)
URL = "https://huggingface.co/owner/name/resolve/main/some/adapter.bin"
FILE = PublishedFile("mine.bin", "ipadapter", URL)


@pytest.fixture
def models(tmp_path):
    """A models folder, empty. A conftest.py imports it, and `served`."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def served(monkeypatch):
    """A server that has CONTENT under every address."""
    server = Served(CONTENT)
    with serving(server) as address:
        ask_here(monkeypatch, address)
        yield server


def fetch(models, file=FILE, tell=None):
    get(plan(file, models), tell)


def fails(problem: Problem, action, *arguments) -> str:
    with pytest.raises(DownloadError) as caught:
        action(*arguments)
    assert caught.value.problem is problem
    return str(caught.value)


def found(models) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in models.rglob("*") if path.is_file()}
