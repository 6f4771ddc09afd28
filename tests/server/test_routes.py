"""The routes that the page asks the server for."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
import torch
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.standins import STAND_INS
from comfyhost.weights import draw
from safetensors.torch import save_file
from support import small_files

FAMILY_OF_TASK = {"foreground": ["sd15"], "background": ["sd15"], "object": ["sd15"]}
ALL = ["sd15", "sdxl", "sd3"]


def get(server, route: str) -> dict:
    with urllib.request.urlopen(f"{server.url}{route}") as response:
        return json.loads(response.read())


def family_of(server, name: str):
    return get(server, f"/ipadapter_instruct/family?adapter={urllib.parse.quote(name, safe='')}")["family"]


def test_the_tasks_are_told_in_their_order_with_their_words_and_families(server):
    told = get(server, "/ipadapter_instruct/tasks")
    assert told["families"] == {"sd15": "SD1.5", "sdxl": "SDXL", "sd3": "SD3"}
    assert [task["name"] for task in told["tasks"]] == [
        "everything", "style", "colour", "pose", "composition", "face", "foreground", "background", "object",
    ]  # fmt: skip
    for task in told["tasks"]:
        assert list(task["families"]) == FAMILY_OF_TASK.get(task["name"], ALL)
        assert task["name"] in task["keywords"]
        assert task["name"] in task["instruction"]


def test_what_is_recommended_for_a_task_depends_on_the_family(server):
    tasks = {task["name"]: task["families"] for task in get(server, "/ipadapter_instruct/tasks")["tasks"]}
    assert tasks["style"]["sd15"] == {"weight": 0.8, "cfg": 5.0, "instruct_guidance": 2.0, "image_guidance": 1.0}
    assert tasks["style"]["sdxl"] == {"weight": 0.9, "cfg": 7.0, "instruct_guidance": 4.0, "image_guidance": 0.5}
    assert tasks["composition"]["sdxl"]["instruct_guidance"] == 6.0
    assert tasks["composition"]["sd3"] == {"weight": 0.8, "cfg": 6.0, "instruct_guidance": 6.0, "image_guidance": 1.0}


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_the_family_of_a_file_is_told(server, models, family, suffix):
    path = small_files.save_adapter(small_files.adapter_tensors(family), models / "ipadapter" / f"of-{family}{suffix}")
    assert family_of(server, path.name) == family


def test_the_published_shapes_are_recognised(server):
    name = next(s.path for s in STAND_INS["sd15"] if s.path.startswith("ipadapter/")).removeprefix("ipadapter/")
    assert family_of(server, name) == "sd15"


@pytest.mark.parametrize("name", ["absent.bin", "", "../../../../etc/passwd", "/etc/passwd"])
def test_a_file_that_is_not_there_or_not_in_the_folder_has_no_family(server, name):
    assert family_of(server, name) is None


def test_a_file_that_is_no_adapter_has_no_family(server, models):
    (models / "ipadapter" / "page.bin").write_text("<html>sign in</html>", encoding="utf-8")
    assert family_of(server, "page.bin") is None


def test_without_a_name_there_is_no_family(server):
    assert get(server, "/ipadapter_instruct/family")["family"] is None


@pytest.mark.parametrize(("kind", "takes"), [("plain", False), ("instruct", True)])
def test_whether_an_adapter_takes_an_instruction_is_told(server, models, kind, takes):
    plain = draw(plain_adapter(Plain("base", image=48), small_files.SITES), seed=0, dtype=torch.float32)
    tensors = small_files.adapter_tensors("sd15") if takes else plain
    path = small_files.save_adapter(tensors, models / "ipadapter" / f"{kind}-takes.safetensors")
    told = get(server, f"/ipadapter_instruct/family?adapter={path.name}")
    assert told == {"family": "sd15", "takes_instruction": takes, "instructions": []}


def test_the_instructions_that_a_file_was_trained_on_are_told(server, models):
    path = models / "ipadapter" / "trained.safetensors"
    save_file(small_files.adapter_tensors("sd15"), path, {"instructions": json.dumps(["use the brush strokes"])})
    told = get(server, f"/ipadapter_instruct/family?adapter={path.name}")
    assert told["instructions"] == ["use the brush strokes"]


def digest_of(server, name: str):
    return get(server, f"/ipadapter_instruct/digest?adapter={urllib.parse.quote(name, safe='')}")["sha256"]


def test_the_digest_of_an_adapters_file_follows_its_content(server, models):
    path = models / "ipadapter" / "digested.safetensors"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert digest_of(server, path.name) == hashlib.sha256(content).hexdigest()
    path.unlink()
    assert [digest_of(server, name) for name in (path.name, "", "../extra_model_paths.yaml", "/etc/passwd")] == [
        None
    ] * 4
