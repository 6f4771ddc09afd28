"""The demo from its command line, as `make demo` runs it."""

from __future__ import annotations

import json

import pytest
from comfyhost import demo
from comfyhost.places import REPO_ROOT, host
from PIL import Image

NODES = {"IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructApply"}


@pytest.mark.long("tests/server/test_families runs the same workflow")
def test_the_demo_leaves_a_picture_that_comfyui_opens_as_the_shipped_workflow(tmp_path, capsys):
    """On the files that the workflow names, in their published shapes."""
    if host().users_own:
        pytest.skip("a ComfyUI that COMFYUI_PATH names has models of its own, or none")
    output = tmp_path / "new" / "picture.png"
    assert demo.main(["--size", "64", "--steps", "1", "--output", str(output)]) == 0

    picture = Image.open(output)
    assert picture.size == (64, 64)
    workflow = json.loads(picture.info["workflow"])
    assert workflow == json.loads((REPO_ROOT / "workflows" / "instruct_sd15.json").read_text(encoding="utf-8"))
    assert {node["type"] for node in workflow["nodes"]} >= NODES
    assert {node["class_type"] for node in json.loads(picture.info["prompt"]).values()} >= NODES

    said = capsys.readouterr()
    first_line = said.err.splitlines()[0]
    assert all(part in first_line for part in ("instruct_sd15.json", "64 x 64 pixels in 1 steps", str(output)))
    assert f"picture: {output}" in said.out
    assert "weight: 0.6" in said.out


def test_a_demo_that_fails_says_so_last_and_what_to_do(tmp_path, capsys):
    no_workflow = tmp_path / "workflow.json"
    no_workflow.write_text("{")
    assert demo.main(["--workflow", str(no_workflow)]) == 1

    said = capsys.readouterr().err
    assert "The demo failed." in said
    assert f"{no_workflow} was expected to be a workflow saved by ComfyUI" in said
    assert said.endswith(f"{demo.ADVICE}\n")
