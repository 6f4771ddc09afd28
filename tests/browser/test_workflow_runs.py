"""Shipped workflows queued from the page on small files, and files that earlier versions saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from comfyhost.places import REPO_ROOT
from support.page.comfy_page import ComfyPage

WORKFLOWS = sorted((REPO_ROOT / "workflows").glob("*.json"))
SAVED = sorted((REPO_ROOT / "tests" / "data" / "saved-workflows").glob("*/*.json"))
SIDE = 128
# Workflows that save a labelled sheet, so many pictures high and wider.
SHEETS = {"grid": 3, "five_instructions": 1, "compare_adapters": 1}
# Small and short. Masks keep their proportions.
SMALL = """(side) => {
    for (const node of app.graph.nodes) {
        const value = (name) => node.widgets?.find((widget) => widget.name === name)?.value
        const set = (name, to) => {
            const widget = node.widgets.find((one) => one.name === name)
            widget.value = to
            widget.callback?.(to)
        }
        if (value('steps') !== undefined) set('steps', 1)
        const scale = ['SolidMask', 'MaskComposite'].includes(node.type) ? 512 : value('width')
        for (const name of ['width', 'height', 'x', 'y'])
            if (typeof value(name) === 'number') set(name, Math.round((value(name) * side) / scale))
    }
}"""
VALUES = (
    "() => Object.fromEntries(app.graph.serialize().nodes.map((node) => [node.id, [node.type, node.widgets_values]]))"
)


@pytest.mark.spread("opened", "path")
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_shipped_workflow_runs_from_the_page(page: ComfyPage, path: Path):
    page.drop_workflow(path)
    page.page.evaluate(SMALL, SIDE)
    page.queue()
    page.show_all()
    page.screenshot(f"{path.stem}-run")
    expected, found = SHEETS.get(path.stem, 1) * SIDE, page.picture("SaveImage")
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
