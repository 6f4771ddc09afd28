"""Names that a stranger's workflow sends, and files that are replaced while the server runs. Asked over the API."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from comfyhost.prompt_builder import ApiPrompt
from ipadapter_instruct.commands.servers.client import NodeFailedError, PromptRejectedError
from support import small_files
from support.patience import PATIENCE

LOADER, ENCODE, SAVE = "IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructSaveEmbeds"
READ, LOAD = "IPAdapterInstructReadFace", "IPAdapterInstructLoadFace"
SETTINGS = {"model_pack": "buffalo_l", "device": "CPU", "which": "largest", "together": "each"}
SECRET = "secret.face.safetensors"
LONG = "a" * 5000
LONGEST_QUERY = 6000  # aiohttp answers longer ones itself, with 400
OUTSIDE = (
    f"../{SECRET}",
    f"../../{SECRET}",
    f"x/../../{SECRET}",
    "{base}/" + SECRET,
    "{base}/" + f"{SECRET} [output]",
    f"../{SECRET} [output]",
    f"../{SECRET} [temp]",
    f"..\\{SECRET}",
    f"C:\\{SECRET}",
    f"\\\\server\\share\\{SECRET}",
    f"..%2f{SECRET}",
    f"..%252f{SECRET}",
    f"\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/{SECRET}",
    f"..\N{FRACTION SLASH}{SECRET}",
    f"../{SECRET}\0.face.safetensors",
    f"file:///{SECRET}",
    LONG + ".face.safetensors",
    "../" * 2000 + SECRET,
)


@pytest.fixture
def secret(server) -> Path:
    """A good file beside ComfyUI's folders, which must not be read."""
    import torch
    from safetensors.torch import save_file

    path = server.base / SECRET
    save_file({"face_embedding": torch.ones(512)}, path)
    yield path
    path.unlink()


def ended(client, graph: dict) -> str:
    """The end of a prompt that should be refused, in words; at the door or at a node."""
    with pytest.raises((NodeFailedError, PromptRejectedError)) as caught:
        client.run(graph, timeout=PATIENCE)
    return str(caught.value)


def loading(adapter_name: str) -> ApiPrompt:
    """A prompt that loads an adapter, and no more; the loader is its first node."""
    graph = ApiPrompt()
    loaded = graph.out(LOADER, adapter_name=adapter_name, image_encoder="auto", lora_strength=1.0)
    graph.add("PreviewAny", source=loaded)
    return graph


def files_below(folder: Path) -> set[str]:
    skipped = ("models", "custom_nodes", "server.log", "user", "temp")
    return {
        str(path.relative_to(folder))
        for name in os.listdir(folder)
        if name not in skipped
        for path in [folder / name, *(folder / name).rglob("*")]
    }


@pytest.mark.parametrize("name", OUTSIDE, ids=range(len(OUTSIDE)))
def test_no_name_reads_a_saved_face_outside_the_folders(client, server, secret, name):
    before = files_below(server.base)
    graph = ApiPrompt()
    graph.add("PreviewAny", source=graph.out(LOAD, file=name.format(base=server.base)))
    message = ended(client, graph)
    assert "file was expected to be faces" in message
    assert len(message) < 3000
    assert files_below(server.base) == before


@pytest.mark.parametrize("name", OUTSIDE, ids=range(len(OUTSIDE)))
def test_no_name_reads_an_adapter_outside_the_folders(client, server, models, name):
    outside = small_files.save_adapter(small_files.adapter_tensors(), models / SECRET)
    message = ended(client, loading(name.format(base=models)))
    assert "was expected in" in message and "is not there" in message
    if len(name) < LONGEST_QUERY:
        asked = urllib.parse.urlencode({"adapter": name.format(base=models)})
        with urllib.request.urlopen(f"{server.url}/ipadapter_instruct/family?{asked}") as answer:
            assert b'"family": null' in answer.read()
    outside.unlink()


@pytest.mark.parametrize(
    "prefix",
    ["../out", "a/../../out", "{base}/out", "/etc/out", "..", "../../../../../../tmp/out", "x\0y", LONG, "."],
    ids=range(9),
)
def test_no_prefix_writes_outside_the_output_folder(client, server, tiny, prefix):
    name = prefix.format(base=server.base)
    alone = ApiPrompt({node_id: node for node_id, node in tiny.items() if node["class_type"] != "SaveImage"})
    embeds = alone.with_node("save", SAVE, embeds=alone.output(ENCODE), filename_prefix=name)
    face = alone.with_node("save", READ, image=alone.output("LoadImage"), **SETTINGS, save_as=name)
    before = files_below(server.base)
    message = ended(client, embeds)
    assert "filename_prefix was expected" in message or "were to be saved in" in message
    if prefix != LONG:  # which is found out when it is written, and there is no face to write
        assert "save_as was expected" in ended(client, face)
    assert files_below(server.base) == before


def test_an_adapter_replaced_under_its_name_is_noticed_also_by_its_time_alone(client, models, tiny):
    path = models / "ipadapter" / "replaced.safetensors"
    sd15, sdxl = (small_files.adapter_tensors(family) for family in ("sd15", "sdxl"))
    graph = loading(path.name)

    def said() -> str:
        run = client.run(graph)
        assert "1" not in run.cached
        return run.outputs["1"]["text"][0]

    small_files.save_adapter(sd15, path)
    assert "SD1.5" in said()
    assert "1" in client.run(graph).cached
    small_files.save_adapter(sdxl, path)
    assert "SDXL" in said()
    os.utime(path, (1, 1))  # the same size, and another time
    assert "SDXL" in said()
    good = path.read_bytes()
    path.write_bytes(b"broken")
    assert "replaced.safetensors was expected to be a file of tensors" in ended(client, graph)
    path.unlink()
    assert "is not there" in ended(client, graph)
    path.write_bytes(good)
    assert "SDXL" in said()
