"""A real browser on real servers: each front end, drawn on the canvas and as Vue nodes.

One server a front end, one page a renderer, and only one of each at a time: pytest orders the tests by them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from comfyhost.browser import chromium
from comfyhost.places import host
from comfyhost.server import INSTALLED, NEWER, ComfyServer, server_arguments
from comfyhost.standins import small_models, write_examples
from playwright.sync_api import Browser
from support.page.comfy_page import ComfyPage

# Two that follow each other have neither the front end nor the renderer in common: a test that is `spread` meets both.
SCREENS = [(INSTALLED, "canvas"), (NEWER, "vue"), (NEWER, "canvas"), (INSTALLED, "vue")]
SECOND = pytest.mark.long("a second front end")


class ModelsFolder:
    """A models folder of links to the small models, which can go and come back while the server runs."""

    def __init__(self, folder: Path, target: Path):
        self.folder = folder
        self.target = target
        for path in target.rglob("*"):
            if path.is_file() and path.parent != target:
                self.link(str(path.relative_to(target)))

    def link(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(self.target / name)

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """While these files are missing."""
        for name in names:
            (self.folder / name).unlink()
        try:
            yield
        finally:
            for name in names:
                self.link(name)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A started Chromium; installed when there is none, and when that fails every test says so.

    It ends with this folder: Playwright keeps an event loop running, under which no other test could start one.
    """
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelsFolder:
    """Small models under the published names."""
    return ModelsFolder(tmp_path_factory.mktemp("models"), small_models())


class Servers:
    """A server for the front end asked for; one at a time."""

    def __init__(self, models: Path):
        self.models = models
        self.front_end: str | None = None
        self.running = ExitStack()

    def url(self, front_end: str) -> str:
        """The address of a server with this front end and the reference picture that shipped workflows name."""
        if front_end != self.front_end:
            self.running.close()
            comfyui = dataclasses.replace(host(), models=self.models)
            # Readers of files are kept from workflow to workflow, and with them what they have read.
            arguments = [*server_arguments(front_end), "--cache-lru", "40"]
            self.server = self.running.enter_context(ComfyServer(comfyui, arguments=arguments))
            self.front_end = front_end
            write_examples(self.server.base)
        return self.server.url


@pytest.fixture(scope="package")
def servers(models: ModelsFolder) -> Iterator[Servers]:
    """Nothing is started yet; stopped after the last test of this folder."""
    started = Servers(models.folder)
    with started.running:
        yield started


@pytest.fixture(
    scope="package",
    params=[pytest.param(screen, marks=[SECOND] if screen[0] == NEWER else []) for screen in SCREENS],
    ids=lambda screen: "-".join(screen),
)
def opened(request: pytest.FixtureRequest, browser: Browser, servers: Servers) -> Iterator[ComfyPage]:
    """The page, opened once for this front end and renderer; nothing went wrong after the last test, either."""
    front_end, renderer = request.param
    page = ComfyPage(browser, servers.url(front_end), vue_nodes=renderer == "vue")
    try:
        page.open()
        yield page
        page.clear()
        page.settle()
        page.check()
    finally:
        page.close()


@pytest.fixture
def page(opened: ComfyPage) -> Iterator[ComfyPage]:
    """The page with an empty graph; afterwards, nothing went wrong in the browser, and no dialog outlives the graph."""
    opened.clear()
    yield opened
    opened.check()
    opened.clear()
    assert not (left := opened.dialogs()), left
