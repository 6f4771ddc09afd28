"""The pack without its js/ folder: comfort is gone, everything else is there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT, host
from comfyhost.server import NEWER, ComfyServer, server_arguments
from comfyhost.standins import write_examples
from playwright.sync_api import Browser
from shipped.recipes import EVERYWHERE
from support.page.comfy_page import ComfyPage

FOLDER = REPO_ROOT / "workflows"
SD15 = FOLDER / "instruct_sd15.json"
PARTS = ("__init__.py", "nodes", "models", "locales", "workflows")


@pytest.fixture
def page_without_js(tmp_path: Path, browser: Browser, models) -> Iterator[ComfyPage]:
    """The newer page on a server whose pack is a copy without js/."""
    pack = tmp_path / "pack"
    pack.mkdir()
    for part in PARTS:
        source = REPO_ROOT / part
        shutil.copytree(source, pack / part) if source.is_dir() else shutil.copy(source, pack / part)
    comfyui = dataclasses.replace(host(), models=models.folder)
    with ComfyServer(comfyui, arguments=server_arguments(NEWER), pack=pack) as server:
        write_examples(server.base)
        page = ComfyPage(browser, server.url, vue_nodes=True)
        try:
            page.open()
            yield page
        finally:
            page.close()


@pytest.mark.long("tests/server runs workflows without a page")
def test_every_shipped_workflow_asks_for_the_same_work_and_one_runs(page_without_js: ComfyPage):
    """tests/browser/test_page.py sees that each asks for this with js."""
    page = page_without_js
    for name in EVERYWHERE:
        path = FOLDER / f"{name}.json"
        page.clear()
        page.drop_workflow(path)
        assert page.prompt() == page.expected_prompt(json.loads(path.read_text(encoding="utf-8"))), name
    page.clear()
    page.drop_workflow(SD15)
    assert page.missing_nodes() == []
    for name in ("width", "height"):
        page.set("EmptyLatentImage", name, 128)
    page.set("KSampler", "steps", 1)
    page.set("IPAdapterInstructEncode", "task", "face")
    page.queue()
    page.screenshot("without-js")
    assert page.picture("SaveImage") == [128, 128]
    page.check()
