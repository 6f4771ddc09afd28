"""Instruct Grid on a real server: every cell is a single run, bit for bit, and nothing is computed twice."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from comfyhost import demo
from comfyhost.places import REPO_ROOT
from comfyhost.prompt_builder import ApiPrompt
from ipadapter_instruct.commands.servers.client import Client, NodeFailedError
from PIL import Image
from support.servers import stand_in_models
from support.servers.grid_prompts import APPLY, CELLS, ENCODE, GRID, SAMPLER, grid_of

LOADER, TASK = "IPAdapterInstructLoader", "IPAdapterInstructTask"


def pixels(client: Client, image: dict) -> np.ndarray:
    """[H, W, 3] of 0..255."""
    return np.asarray(Image.open(io.BytesIO(client.download(image))).convert("RGB"))


def run_of(kind: str, run) -> list[str]:
    """The ids of the grid's own nodes of a type that ran."""
    return [node_id for node_id in run.seconds if f".{kind}-" in node_id]


@pytest.fixture(scope="module", params=["sd15", "sd3"])
def single(request, server, tiny) -> Iterator[ApiPrompt]:
    """A prompt for one picture, of each family; SD3's models are let go at the end."""
    if request.param == "sd15":
        yield tiny
        return
    options = demo.parse(["--family", "sd3", "--size", "128", "--steps", "2"])
    workflow = demo.workflow_at(REPO_ROOT / "workflows" / "instruct_sd3.json")
    stand_in_models.put_in_place("sd3")
    with Client(server.url) as client:
        yield ApiPrompt(demo.prepare(workflow, client, demo.changes_of(options)))
        client.post("/free", unload_models=True, free_memory=True)


@pytest.mark.long("tests/host/test_grid does it in process")
def test_every_cell_is_a_single_run_bit_for_bit(client, single):
    graph = grid_of(single)
    run = client.run(graph)
    cells = [pixels(client, image) for image in run.outputs[single.id("SaveImage")]["images"]]

    assert len(cells) == len(CELLS)
    for found, (instruction, weight) in zip(cells, CELLS, strict=True):
        alone = single.changed(ENCODE, task="own words", instruction=instruction).changed(APPLY, weight=weight)
        assert np.array_equal(found, pixels(client, client.run(alone).images()[0]))
    assert len({cell.tobytes() for cell in cells}) == len(CELLS)


@pytest.mark.long("tests/host/test_grid does it in process")
def test_the_sheet_holds_every_cell_and_room_for_labels(client, tiny):
    run = client.run(grid_of(tiny, seed=11))
    (sheet,) = (pixels(client, image) for image in run.outputs["sheet"]["images"])
    cells = [pixels(client, image) for image in run.outputs[tiny.id("SaveImage")]["images"]]

    height, width = cells[0].shape[:2]
    assert sheet.shape[0] > 2 * height
    assert sheet.shape[1] > 2 * width
    windows = np.lib.stride_tricks.sliding_window_view(sheet, cells[0].shape)[:, :, 0]
    places = [np.argwhere((windows[:, :, 0, 0] == cell[0, 0]).all(-1)) for cell in cells]
    for cell, corners in zip(cells, places, strict=True):
        assert any(np.array_equal(sheet[y : y + height, x : x + width], cell) for y, x in corners)


@pytest.mark.long("tests/host/test_grid does it in process")
def test_each_instruction_is_encoded_once_and_only_new_cells_are_made_in_the_next_run(client, tiny):
    first = client.run(grid_of(tiny, prompt="a teapot"))
    assert len(run_of(ENCODE, first)) == 2
    assert [len(run_of(kind, first)) for kind in (APPLY, SAMPLER, "VAEDecode")] == [4, 4, 4]

    wider = client.run(grid_of(tiny, prompt="a teapot", column_values="0.4, 0.9, 1.2"))
    assert run_of(ENCODE, wider) == []
    assert [len(run_of(kind, wider)) for kind in (APPLY, SAMPLER, "VAEDecode")] == [2, 2, 2]


@pytest.mark.long("tests/host/test_grid does it in process")
def test_cells_that_differ_in_cfg_and_seed_share_encode_and_apply(client, tiny):
    axes = {"rows": "cfg", "row_values": "1, 4", "columns": "seed", "column_values": "1\n2\n3"}
    run = client.run(grid_of(tiny, prompt="a kettle", **axes))
    assert [len(run_of(kind, run)) for kind in (ENCODE, APPLY, SAMPLER)] == [1, 1, 6]


@pytest.mark.long("tests/host/test_grid does it in process")
def test_the_grid_says_how_many_pictures_and_passes_it_makes(client, tiny):
    run = client.run(grid_of(tiny, seed=13))
    (said,) = run.outputs["grid"]["text"]
    assert said.startswith("4 picture(s) of 2 steps, 2 instruction(s); 20 passes")  # 2 x 2 x 2 simple, 2 x 2 x 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_values": "0.4, x", "rows": "cfg"}, "row_values was expected to be numbers"),
        (
            {"columns": "guidance", "column_values": "auto, loud"},
            "column_values was expected to be one of auto, simple",
        ),
        ({"columns": "instruction", "column_values": "a"}, "rows and columns were expected to vary two things"),
    ],
)
def test_wrong_values_reach_the_client_before_anything_is_loaded(client, tiny, changes, message):
    client.post("/free", unload_models=True, free_memory=True)
    graph = grid_of(tiny, **changes)
    began: list[str] = []
    with pytest.raises(NodeFailedError, match=message) as failure:
        client.run(graph, lambda progress: began.append(progress.node_id))
    assert failure.value.node_type == GRID
    assert began == ["grid"]


def test_instruct_tasks_outputs_go_into_encode_apply_and_the_sampler(client, tiny):
    adapter = tiny.output(LOADER)
    graph = tiny.with_node("task", TASK, adapter=adapter, task="composition", phrasing="plain", seed=0)
    graph = graph.changed(ENCODE, task="own words", instruction=["task", 0])
    numbers = {"weight": ["task", 1], "instruct_guidance": ["task", 3], "image_guidance": ["task", 4]}
    graph = graph.changed(APPLY, guidance=["task", 2], **numbers).changed(SAMPLER, cfg=["task", 5])
    recommended = {"weight": 0.8, "guidance": "auto", "instruct_guidance": 2.0, "image_guidance": 1.0}
    typed = tiny.changed(ENCODE, task="composition").changed(APPLY, **recommended)

    found, expected = (client.run(one) for one in (graph, typed.changed(SAMPLER, cfg=5.0)))
    assert found.outputs["task"]["text"] == ["use the composition", "instruction: trained on composition"]
    assert np.array_equal(*(pixels(client, run.images()[0]) for run in (found, expected)))
