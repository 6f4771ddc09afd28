"""One running ComfyUI, with the pack, the stand-in models and much smaller ones, for all tests in this folder."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from comfyhost.checkpoints import checkpoint
from comfyhost.encoders import vit_h
from comfyhost.places import REPO_ROOT, host
from comfyhost.prompt_builder import ApiPrompt
from comfyhost.server import ComfyServer
from comfyhost.standins import CHECKPOINTS, StandIn, adapter_for, small_models, write_photo, write_stand_ins
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from ipadapter_instruct.commands.servers.client import Client
from support.servers import stand_in_models

TINY = "tiny_sd15.safetensors"
SMALL_VIT_H = "small_vit_h.safetensors"  # named so that auto does not take it before the ordinary one
SMALL = {"ckpt_name": TINY, "adapter_name": TINY, "width": 128, "height": 128, "steps": 2}
TINY_FILES = (
    StandIn(f"checkpoints/{TINY}", lambda: checkpoint("sd15")),
    StandIn(f"ipadapter/{TINY}", lambda: adapter_for("sd15", kind="sd15")),
    StandIn(f"clip_vision/{SMALL_VIT_H}", lambda: vit_h(layers=2)),
)
FOLDERS = ("checkpoints", "clip_vision", "ipadapter", "background_removal", "detection")


@pytest.fixture(scope="session")
def models() -> Iterator[Path]:
    """A models folder of these tests' own, which the server has beside the ordinary one."""
    with tempfile.TemporaryDirectory(prefix="models-") as name:
        folder = Path(name)
        write_stand_ins(folder, TINY_FILES)
        for kind in FOLDERS:
            (folder / kind).mkdir(exist_ok=True)
        yield folder


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[ComfyServer]:
    """A started server; stopped after the last test."""
    stand_in_models.put_in_place()
    paths = models / "extra_model_paths.yaml"  # JSON is YAML
    own = {"base_path": str(models), **{kind: kind for kind in FOLDERS}}
    paths.write_text(json.dumps({"tests": own, "stand-ins": stand_in_models.PATHS}))
    # On a GPU some of torch's fastest algorithms do not repeat themselves exactly.
    arguments = ["--extra-model-paths-config", str(paths), "--deterministic", "--preview-method", "latent2rgb"]
    with ComfyServer(arguments=arguments) as running:
        yield running


@pytest.fixture(scope="session")
def small_server() -> Iterator[ComfyServer]:
    """A server with small models under the names that shipped workflows use."""
    with ComfyServer(replace(host(), models=small_models())) as running:
        yield running


@pytest.fixture
def client(server: ComfyServer) -> Client:
    """A connection of the test's own to the server."""
    with Client(server.url) as connected:
        yield connected


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, dict]:
    """Every node type the server knows."""
    with Client(server.url) as connected:
        return connected.object_info()


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photograph, as PNG."""
    path = tmp_path_factory.mktemp("photo") / "example.png"
    write_photo(path)
    return path


@pytest.fixture(scope="session")
def shipped(server: ComfyServer, object_info: dict[str, dict], photo: Path) -> ApiPrompt:
    """The shipped workflow as it lies in its file; its reference picture is there."""
    workflow = json.loads((REPO_ROOT / "workflows" / "instruct_sd15.json").read_text(encoding="utf-8"))
    prompt = ApiPrompt(to_prompt(workflow, object_info))
    with Client(server.url) as connected:
        connected.upload_image(photo, prompt.inputs("LoadImage")["image"])
    return prompt


@pytest.fixture(scope="session")
def with_auto(shipped: ApiPrompt) -> ApiPrompt:
    """The shipped workflow with the small models and ViT-H, found by `auto`: two steps to a small picture."""
    return shrunk(shipped)


@pytest.fixture(scope="session")
def tiny(with_auto: ApiPrompt) -> ApiPrompt:
    """The same with an image encoder of two layers, where ViT-H has 32."""
    return with_small_encoder(with_auto)


@pytest.fixture(scope="session")
def shrink(shipped: ApiPrompt) -> Callable[[dict], ApiPrompt]:
    """A function that makes another workflow's prompt as small as `tiny`; its reference picture is there."""
    return lambda prompt: with_small_encoder(shrunk(prompt))


def shrunk(prompt: dict) -> ApiPrompt:
    small = ApiPrompt(copy.deepcopy(dict(prompt)))
    for inputs in (node["inputs"] for node in small.values()):
        others = {"ckpt_name"} if inputs.get("ckpt_name") != CHECKPOINTS["sd15"] else set()
        inputs |= {name: value for name, value in SMALL.items() if name in inputs.keys() - others}
    return small


def with_small_encoder(prompt: ApiPrompt) -> ApiPrompt:
    graph = prompt.with_node("encoder", "IPAdapterInstructOpenClip", image_encoder=SMALL_VIT_H, text_encoder="none")
    return graph.changed("IPAdapterInstructLoader", clip_vision=["encoder", 0])
