"""`make demo` in the drawn world: from the stored files to a sheet on which each instruction takes what it asks for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from comfyhost.in_process import pack_module
from drawn_world import demo
from drawn_world.scenes.judge import nearest_scene
from drawn_world.scenes.scene import SIDE, TASKS, taken
from drawn_world.sheet import CELL, PROMPT, REFERENCE, labels
from PIL import Image

# One server makes the sheet; `make demo` does the same.
pytestmark = [pytest.mark.xdist_group("drawn world"), pytest.mark.long("tests/golden has the same numbers")]


@pytest.fixture(scope="module")
def sheet(tmp_path_factory) -> Image.Image:
    output = tmp_path_factory.mktemp("demo") / "sheet.png"
    assert demo.main(["--output", str(output)]) == 0
    return Image.open(output)


def cells(sheet: Image.Image) -> list[np.ndarray]:
    """The pictures on the sheet, from the left, each [96, 96, 3] in 0..1."""
    marks = (torch.arange(len(labels())) + 1) / 16  # a grey that nothing else on the sheet has
    marked = pack_module("models.drawing.label_sheet").labelled_grid(
        marks[:, None, None, None].expand(-1, CELL, CELL, 3), [], labels()
    )[0, ..., 0]
    assert marked.shape == (sheet.height, sheet.width)
    pixels, found = np.asarray(sheet.convert("RGB"), dtype=np.float32) / 255, []
    for mark in marks:
        at = (marked == mark).nonzero()
        top, left = at.amin(0).tolist()
        found.append(pixels[top : top + CELL : CELL // SIDE, left : left + CELL : CELL // SIDE])
    return found


def test_the_picture_itself_comes_first(sheet):
    assert nearest_scene(cells(sheet)[0]) == REFERENCE


@pytest.mark.parametrize("task", TASKS)
def test_an_instruction_takes_what_it_asks_for_and_nothing_else(sheet, task):
    picture = cells(sheet)[1 + list(TASKS).index(task)]
    assert nearest_scene(picture) == taken(task, REFERENCE, PROMPT)


def test_comfyui_opens_the_sheet_as_a_workflow_with_the_packs_nodes(sheet):
    types = {node["type"] for node in json.loads(sheet.info["workflow"])["nodes"]}
    assert {f"IPAdapterInstruct{name}" for name in ("Loader", "Encode", "Apply", "LabelGrid")} <= types


def test_with_published_files_in_place_the_demo_takes_those(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(demo, "published_files", lambda family: family == "sd15")
    monkeypatch.setattr(demo.demo, "main", lambda arguments: asked.extend(arguments) or 0)
    assert demo.main(["--output", str(tmp_path / "sheet.png")]) == 0
    assert asked == ["--workflow", str(demo.PUBLISHED), "--output", str(tmp_path / "sheet.png")]
    assert demo.PUBLISHED.is_file()
