"""A server of its own whose models/ipadapter is a file, with a node that goes wrong in the middle of a step."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from comfyhost.places import host
from comfyhost.server import ComfyServer
from ipadapter_instruct.commands.servers.client import Client, NodeFailedError, Progress, RunInterruptedError
from PIL import Image
from support.servers import stand_in_models

APPLY, LOADER, SAMPLER = "IPAdapterInstructApply", "IPAdapterInstructLoader", "KSampler"
pytestmark = pytest.mark.long("a second server; tests/host/test_broken_runs and test_unreadable_folders are in process")
FAULTS = Path(__file__).parents[1] / "support" / "servers" / "faults"


@pytest.fixture(scope="module")
def faulty(server, models, tmp_path_factory):
    """The small models are in a second models folder, as with the other server."""
    base, own = tmp_path_factory.mktemp("faulty"), tmp_path_factory.mktemp("own-models")
    (own / "ipadapter").write_text("a file")
    (own / "clip_vision").symlink_to(stand_in_models.MODELS / "clip_vision", target_is_directory=True)
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "faults").symlink_to(FAULTS, target_is_directory=True)
    paths = ["--extra-model-paths-config", str(models / "extra_model_paths.yaml")]
    where = dataclasses.replace(host(), models=own)
    with ComfyServer(where, base, arguments=[*paths, "--deterministic"]) as running:
        yield running


@pytest.fixture
def client(faulty, photo, tiny):
    with Client(faulty.url) as connected:
        connected.upload_image(photo, tiny.inputs("LoadImage")["image"])
        yield connected


def pixels(client, graph) -> np.ndarray:
    """The picture that a graph makes, sampled now."""
    run = client.run(graph)
    assert graph.id(SAMPLER) in run.seconds and graph.id(SAMPLER) not in run.cached
    return np.asarray(Image.open(io.BytesIO(client.download(run.images()[0]))))


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("kind, end", [("out of memory", NodeFailedError), ("interrupted", RunInterruptedError)])
def test_after_a_step_that_broke_in_its_middle_the_picture_is_what_it_was(client, faulty, tiny, kind, end, guidance):
    right = tiny.changed(APPLY, guidance=guidance).changed(SAMPLER, steps=3)
    wrong = right.with_node("fault", "TestFault", model=right.output(APPLY), fault=kind)
    wrong = wrong.changed(SAMPLER, model=["fault", 0])
    before = pixels(client, right)
    asked = []

    def interrupt(progress: Progress) -> None:
        if kind == "interrupted" and progress.value == 1 and progress.maximum == 3 and not asked:
            asked.append(client.post("/interrupt"))

    with pytest.raises(end) as caught:
        client.run(wrong, interrupt, timeout=110)
    assert SAMPLER in str(caught.value)
    assert bool(asked) == (kind == "interrupted")
    assert np.array_equal(pixels(client, right), before)
    assert before.std() > 1, "the picture should show something"


def test_a_file_in_the_place_of_the_folder_is_said_and_the_other_folder_is_used(client, faulty, tiny):
    place = faulty.base / "models" / "ipadapter"
    assert "(IMPORT FAILED)" not in faulty.log_text()
    assert f"{place} cannot be read (Not a directory)" in faulty.log_text()
    with pytest.raises(NodeFailedError, match=r"nothing\.bin was expected in .*is not there") as caught:
        client.run(tiny.changed(LOADER, adapter_name="nothing.bin"))
    assert f"{place} cannot be read (Not a directory)" in str(caught.value)
    assert client.run(tiny.changed(SAMPLER, steps=1)).images()
