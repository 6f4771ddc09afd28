"""Shipped workflows queued from the page on small files, and files that earlier versions saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from shipped.recipes import EVERYWHERE
from support.page.comfy_page import ComfyPage

# Those of newer nodes run in tests/server/test_newer_nodes.
WORKFLOWS = [path for path in sorted((REPO_ROOT / "workflows").glob("*.json")) if path.stem in EVERYWHERE]
SAVED = sorted((REPO_ROOT / "tests" / "data" / "saved-workflows").glob("*/*.json"))
SIDE = 128
# Workflows that save a labelled sheet, so many pictures high and wider; and one that saves a part as large as it is.
SHEETS = {"grid": 3, "five_instructions": 1, "compare_adapters": 1, "pairs_cut_out": 1}
PAIR = ("Reference", "Target")  # titles of what gives a pair's pictures
# 1.58 saves no list of values for a node that has none.
VALUES = """() => Object.fromEntries(
    app.graph.serialize().nodes.map((node) => [node.id, [node.type, node.widgets_values ?? []]]))"""


@pytest.mark.spread("opened", "path")
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_runs_from_the_page(page: ComfyPage, path: Path):
    page.drop_workflow(path)
    page.make_small(SIDE)
    page.queue()
    page.show_all()
    page.screenshot(f"{path.stem}-run")
    (saving,) = (node for node in page.nodes() if node["type"] == "SaveImage" or node["title"] in PAIR)
    expected, found = SHEETS.get(path.stem, 1) * SIDE, page.picture_of(saving["id"])
    assert min(found) > expected if path.stem in SHEETS else found == [expected, expected]
    assert page.dialogs() == []
    assert page.overflow() == []


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_that_an_earlier_version_saved_opens_whole_with_its_values(page: ComfyPage, path: Path):
    page.drop_workflow(path)
    assert page.missing_nodes() == []
    assert page.dialogs() == []
    opened = page.page.evaluate(VALUES)
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"].startswith("IPAdapterInstruct"):
            kind, values = opened[str(node["id"])]
            saved = node["widgets_values"]
            assert (kind, values[: len(saved)]) == (node["type"], saved)
