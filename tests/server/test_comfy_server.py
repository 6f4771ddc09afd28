"""The server and its client, by themselves."""

from __future__ import annotations

import pytest
from comfyhost.places import PACK_FOLDER
from comfyhost.server import ComfyServer, ServerError, answers
from ipadapter_instruct.commands.servers.client import (
    NodeFailedError,
    Progress,
    PromptRejectedError,
    RunInterruptedError,
)

LATENT = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
PICTURE = {
    "class_type": "EmptyImage",
    "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 0xFF8000},
}


def saved(picture: list) -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": picture, "filename_prefix": "test"}}


def test_the_pack_is_loaded_from_the_servers_own_custom_nodes(server, object_info):
    packs = {
        node["python_module"] for node in object_info.values() if node["python_module"].startswith("custom_nodes.")
    }
    assert packs == {f"custom_nodes.{PACK_FOLDER}"}
    assert f"{server.base / 'custom_nodes' / PACK_FOLDER}" in server.log_text()
    assert "(IMPORT FAILED)" not in server.log_text()


def test_the_stand_ins_are_offered(object_info):
    checkpoints = object_info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert "v1-5-pruned-emaonly-fp16.safetensors" in checkpoints


def test_a_picture_can_be_made_and_fetched(client):
    run = client.run({"1": PICTURE, "2": saved(["1", 0])})
    assert client.download(run.images()[0]).startswith(b"\x89PNG")
    assert set(run.seconds) == {"1", "2"}
    history = client.do(client.request("GET", f"/history/{run.prompt_id}"))
    assert history[run.prompt_id]["status"]["completed"]


def test_an_uploaded_picture_can_be_loaded(client, photo):
    name = client.upload_image(photo, "uploaded.png")
    load = {"class_type": "LoadImage", "inputs": {"image": name}}
    seen: list[Progress] = []
    run = client.run({"1": load, "2": saved(["1", 0])}, seen.append)
    assert [progress.node_id for progress in seen] == ["1", "2"]
    assert len(run.images()) == 1


def test_a_refused_prompt_says_which_node_and_why(client):
    decode = {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0]}}
    with pytest.raises(PromptRejectedError, match=r"node 2 \(VAEDecode\).*: vae"):
        client.queue({"1": LATENT, "2": decode, "3": saved(["2", 0])})


def test_a_failing_node_is_named(client, server):
    (server.base / "input" / "broken.png").write_bytes(b"no picture")
    load = {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}
    with pytest.raises(NodeFailedError) as failure:
        client.run({"1": load, "2": saved(["1", 0])})
    assert (failure.value.node_id, failure.value.node_type) == ("1", "LoadImage")
    assert "LoadImage" in str(failure.value) and failure.value.traceback


def test_a_prompt_of_which_only_a_part_could_run_is_refused(client, photo):
    name = client.upload_image(photo, "uploaded.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {}},
    }
    with pytest.raises(PromptRejectedError, match=r"a part of the prompt\.\n- node 3 \(PreviewImage\)"):
        client.run(prompt)


def test_a_run_can_be_interrupted(client):
    model = {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"},
    }
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}}
    settings = {
        "seed": 1,
        "steps": 500,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
    sample = {"class_type": "KSampler", "inputs": {**settings, **links}}
    decode = {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}}
    prompt = {"1": model, "2": text, "3": LATENT, "4": sample, "5": decode, "6": saved(["5", 0])}
    asked: list[None] = []

    def interrupt_once(progress: Progress) -> None:
        if progress.maximum and not asked:
            asked.append(client.post("/interrupt"))

    with pytest.raises(RunInterruptedError):
        client.run(prompt, interrupt_once)
    client.post("/free", unload_models=True, free_memory=True)


def test_a_server_that_cannot_start_says_what_it_logged(tmp_path):
    broken = ComfyServer(base=tmp_path, arguments=["--no-such-option"])
    with pytest.raises(ServerError, match="no-such-option"), broken:
        pass
    assert broken.process is None


def test_a_taken_port_is_reported_when_it_was_asked_for(server, tmp_path):
    with (
        pytest.raises(ServerError, match=f"Port {server.port}"),
        ComfyServer(base=tmp_path, port=server.port),
    ):
        pass


@pytest.mark.long("a second server")
def test_a_server_stops_when_the_work_fails():
    with pytest.raises(RuntimeError, match="the work"), ComfyServer() as running:
        process, base = running.process, running.base
        raise RuntimeError("the work")
    assert process.poll() is not None
    assert not base.exists()
    assert not answers(running.url)
