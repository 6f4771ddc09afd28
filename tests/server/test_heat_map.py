"""Watch and heat map on a real server: pictures of what was seen, drawn anew without sampling anew."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ipadapter_instruct.commands.servers.client import Client, NodeFailedError
from PIL import Image

APPLY, WATCH, HEAT_MAP, SAMPLER = (
    "IPAdapterInstructApply",
    "IPAdapterInstructWatch",
    "IPAdapterInstructHeatMap",
    "KSampler",
)
VIEWS = ("picture", "over steps", "over blocks", "tokens")


@pytest.fixture
def watched(tiny):
    """The small workflow with a watch before the sampler, and the heat map saved in place of the picture."""
    graph = tiny.changed("EmptyLatentImage", width=192, height=128).changed(SAMPLER, steps=4, seed=7)
    graph = graph.with_node("watch", WATCH, model=graph.inputs(SAMPLER)["model"])
    graph = graph.changed(SAMPLER, model=["watch", 0])
    settings = {"view": "picture", "opacity": 0.6, "scale": "each map"}
    graph = graph.with_node("heat map", HEAT_MAP, watch=["watch", 1], image=graph.output("VAEDecode"), **settings)
    return graph.changed("SaveImage", images=["heat map", 0])


def drawn(client: Client, graph: dict) -> tuple[np.ndarray, object]:
    """Run the graph; its only picture, [H, W, 3] of 0..255, and the run."""
    run = client.run(graph)
    (image,) = run.images()
    return np.asarray(Image.open(io.BytesIO(client.download(image))).convert("RGB")), run


@pytest.mark.long("tests/host/watch draws the same in process")
def test_every_view_is_drawn_without_sampling_again(client, watched):
    pictures, runs = zip(*(drawn(client, watched.changed(HEAT_MAP, view=view)) for view in VIEWS), strict=True)
    for found in pictures:
        assert found.std() > 1, "the picture is one flat colour"
    assert pictures[0].shape == (128, 192, 3)
    assert all(found.shape[1] > 2 * 192 for found in pictures[1:])  # sheets of several
    sampler = watched.id(SAMPLER)
    assert sampler in runs[0].seconds
    assert not any(sampler in run.seconds for run in runs[1:])


@pytest.mark.long("tests/host/watch draws the same in process")
def test_another_seed_draws_anew_by_itself(client, watched):
    first, _ = drawn(client, watched.changed(HEAT_MAP, opacity=1.0))
    second, run = drawn(client, watched.changed(HEAT_MAP, opacity=1.0).changed(SAMPLER, seed=8))
    assert watched.id(HEAT_MAP) in run.seconds
    assert (first != second).any()


@pytest.mark.long("tests/host/watch draws the same in process")
def test_the_node_says_how_much_each_instruction_got(client, watched):
    instruction = watched.inputs("IPAdapterInstructEncode")["instruction"]
    _, run = drawn(client, watched.changed(SAMPLER, seed=9))
    (shown,) = run.outputs[watched.id(HEAT_MAP)]["text"]
    assert shown.startswith(f"{instruction}: ")
    assert "% of the attention" in shown


def test_the_watch_changes_nothing_of_the_picture(client, watched):
    seen = watched.changed("SaveImage", images=watched.output("VAEDecode"))
    bare = seen.changed(SAMPLER, model=watched.output(APPLY))
    assert np.array_equal(drawn(client, seen)[0], drawn(client, bare)[0])


def test_a_watch_whose_model_was_not_sampled_says_what_to_do(client, watched):
    own_watch = watched.changed(APPLY, weight=0.7)  # none that an earlier run has filled
    with pytest.raises(NodeFailedError, match="nothing was seen yet. Connect the model of Instruct Watch") as failure:
        client.run(own_watch.changed(SAMPLER, model=watched.output(APPLY)))
    assert failure.value.node_type == HEAT_MAP
