"""Train IPAdapter-Instruct in a real ComfyUI: what it trains is a file that the loader takes, and the same again."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from ipadapter_instruct.commands.servers.client import Client, NodeFailedError, Progress, RunInterruptedError
from PIL import Image
from safetensors.numpy import load_file

TRAIN, LOADER, ENCODE = "IPAdapterInstructTrain", "IPAdapterInstructLoader", "IPAdapterInstructEncode"
STEPS = 4
OWN_WORDS = {"task": "own words", "instruction": "use the inverted look"}


@pytest.fixture(scope="module")
def trained(tiny):
    """The tiny adapter, trained on four pairs cut from the reference picture; its output takes the loader's place."""
    graph = tiny.with_node(
        "tiles", "IPAdapterInstructTile", image=tiny.output("LoadImage"), max_tiles=4, overlap=0.0, whole=False
    )
    graph = graph.with_node("targets", "ImageInvert", image=["tiles", 0])
    graph = graph.with_node("small", "ImageScale", image=["targets", 0], **scale())
    inputs = {
        "model": tiny.output("CheckpointLoaderSimple"),
        "clip": tiny.output("CheckpointLoaderSimple", 1),
        "vae": tiny.output("CheckpointLoaderSimple", 2),
        "references": ["tiles", 0],
        "targets": ["small", 0],
        "instruction": "use the inverted look",
        "captions": "a picture",
        "initial_adapter": tiny.inputs(LOADER)["adapter_name"],
        "steps": STEPS,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "seed": 0,
        "filename_prefix": "trained",
        "preview_every": 2,
        "clip_vision": tiny.inputs(LOADER)["clip_vision"],
    }
    graph = graph.with_node("trained", TRAIN, **inputs).with_node("plot", "PreviewImage", images=["trained", 1])
    graph = graph.with_node("graph", "LossGraphNode", loss=["trained", 3], filename_prefix="losses")
    return graph.changed(ENCODE, adapter=["trained", 0], **OWN_WORDS)


def scale() -> dict:
    return {"upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}


def pictures(client: Client, graph: dict) -> list[np.ndarray]:
    found = client.run(graph).images()
    return [np.asarray(Image.open(io.BytesIO(client.download(image))).convert("RGB")) for image in found]


def adapters(server) -> dict[str, dict]:
    """The trained files, by name, and their tensors."""
    return {path.name: load_file(path) for path in sorted((server.base / "output" / "ipadapter").glob("*"))}


def test_what_was_trained_is_used_at_once_and_saved_and_can_be_loaded(client, server, tiny, trained):
    seen: list[Progress] = []
    run = client.run(trained, seen.append)
    words = run.outputs["trained"]["text"]
    name = words[0].split(" ")[0]
    assert f"4 pairs, {STEPS} steps, loss" in words[1]
    said = [line for output in run.outputs.values() for line in output.get("text", ())]
    assert "instruction: this file was trained on it" in said
    assert {p.value for p in seen if p.node_id == "trained" and p.maximum == STEPS} >= {1, STEPS}
    assert name in adapters(server)
    drawn = {node: client.download(*run.outputs[node]["images"]) for node in ("plot", "graph")}
    assert {node: Image.open(io.BytesIO(data)).size for node, data in drawn.items()} == {
        "plot": (640, 360),
        "graph": (840, 520),  # by ComfyUI's own node
    }
    made = {image["type"]: client.download(image) for image in run.images()}

    offered = client.object_info()[LOADER]["input"]["required"]["adapter_name"]
    assert name in str(offered)
    loaded = tiny.changed(LOADER, adapter_name=name).changed(ENCODE, **OWN_WORDS)
    assert np.array_equal(
        pictures(client, loaded)[0], np.asarray(Image.open(io.BytesIO(made["output"])).convert("RGB"))
    )
    untrained = tiny.changed(ENCODE, **OWN_WORDS)
    assert (pictures(client, untrained)[0] != pictures(client, loaded)[0]).any()


def test_a_folder_of_pairs_is_trained_on_in_place_of_images(client, server, photo, trained):
    folder = server.base / "input" / "mine" / "style"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.open(photo).resize((80, 64 + number)).rotate(90 * number).save(folder / f"{number}.png")
    lines = [{"reference": "0.png", "target": "1.png", "caption": "a", "task": task} for task in ("style", "colour")]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    offered = client.object_info()[TRAIN]["input"]["optional"]["pairs"]
    assert "mine/style" in str(offered)
    both = trained.changed(TRAIN, pairs="mine/style", filename_prefix="folder")
    with pytest.raises(NodeFailedError, match="Images or a folder were expected; both are there"):
        client.run(both)
    inputs = {name: value for name, value in both.inputs(TRAIN).items() if name not in ("references", "targets")}
    both["trained"]["inputs"] = inputs
    words = client.run(both).outputs["trained"]["text"]
    assert words[0].startswith("folder") and f"2 pairs, {STEPS} steps" in words[1]
    del both["trained"]["inputs"]["pairs"]
    with pytest.raises(NodeFailedError, match="References and targets were expected, or a folder in pairs"):
        client.run(both)
    both["trained"]["inputs"]["pairs"] = "../mine"
    with pytest.raises(NodeFailedError, match="A folder .*mine.* with pairs.jsonl was expected in"):
        client.run(both)


@pytest.mark.long("tests/host/test_training resumes to the same bits")
def test_the_same_seed_trains_the_same_and_another_one_something_else(client, server, trained):
    before = set(adapters(server))
    for seed in (1, 2, 1):
        client.run(trained.changed(TRAIN, seed=seed, filename_prefix=f"seed{seed}"))
    files = adapters(server)
    made = [files[name] for name in sorted(files) if name not in before and name.startswith("seed")]
    first, again, other = made
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.long("tests/host/test_training stops a run")
def test_an_interrupt_keeps_what_was_trained(client, server, trained):
    asked: list[Progress] = []

    def interrupt_in_training(progress: Progress) -> None:
        if progress.node_id == "trained" and progress.value >= 3 and not asked:
            asked.append(progress)
            client.post("/interrupt")

    with pytest.raises(RunInterruptedError, match=TRAIN):
        client.run(trained.changed(TRAIN, steps=100_000, filename_prefix="stopped"), interrupt_in_training)
    assert "stopped_00001_.safetensors" in adapters(server)
    assert pictures(client, trained)[0].std() > 1


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"references": ["tiles", 0], "targets": ["one", 0]}, "As many targets as references were expected, 4"),
        ({"captions": "one\ntwo"}, "One caption for all 4 pairs, or a line for each, was expected; there are 2 lines"),
        ({"instruction": " \n"}, "Write an instruction, such as"),
        ({"filename_prefix": "../trained"}, "was expected to be a place inside"),
        ({"filename_prefix": "trained \ud83d"}, "letter 9 is half of one"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_a_step(client, server, trained, changed, said):
    before = set(adapters(server))
    graph = trained.with_node("one", "ImageFromBatch", image=["small", 0], batch_index=0, length=1)
    with pytest.raises(NodeFailedError, match=said):
        client.run(graph.changed(TRAIN, **changed))
    assert set(adapters(server)) == before
