"""The entries for ComfyUI-Manager's lists, against the lists that Manager has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from comfyhost.environments import site_packages
from comfyhost.places import REPO_ROOT, TOOLS
from ipadapter_instruct.models.families import FAMILIES

PYPROJECT = (REPO_ROOT / "pyproject.toml").read_text(encoding="utf-8")
ADDRESS = re.search(r'Repository = "(.+)"', PYPROJECT)[1]
SIZES = {"sd15": "352MB", "sdxl": "2.12GB", "sd3": "1.56GB"}
ENCODER = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
REQUIRED = ("author", "title", "id", "reference", "files", "install_type", "description")


def entries(name: str, kind: str) -> list[dict]:
    """Ours, as it is to be submitted."""
    return json.loads((TOOLS / "registry" / name).read_text(encoding="utf-8"))[kind]


@pytest.fixture(scope="session")
def managers(manager_host) -> Callable[[str], dict]:
    """A list that is in Manager's package, by its file name."""
    folder = site_packages(manager_host.python) / "comfyui_manager"
    return lambda name: json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_adapter_has_an_entry_with_its_published_file(family):
    (entry,) = (e for e in entries("model-list.json", "models") if e["filename"] == family.published_file)
    assert (entry["url"], entry["base"], entry["size"]) == (family.url, family.title, SIZES[family.name])
    assert (entry["type"], entry["save_path"]) == ("IP-Adapter", "ipadapter")
    assert family.url.startswith(entry["reference"])
    assert ADDRESS in entry["description"]


def test_the_entries_for_models_have_the_keys_and_words_of_managers_own(managers):
    own, ours = managers("model-list.json")["models"], entries("model-list.json", "models")
    assert len(ours) == len(FAMILIES)
    assert {tuple(entry) for entry in ours} == {tuple(entry) for entry in own}
    for key in ("type", "base", "save_path"):
        assert {entry[key] for entry in ours} <= {entry[key] for entry in own}, key


def test_manager_lacks_the_adapters_and_has_the_image_encoder(managers):
    own = managers("model-list.json")["models"]
    assert not {entry["url"] for entry in own} & {entry["url"] for entry in entries("model-list.json", "models")}
    (encoder,) = (entry for entry in own if entry["filename"] == ENCODER)
    assert encoder["save_path"] == "clip_vision"
    assert encoder["url"] in (REPO_ROOT / "README.md").read_text(encoding="utf-8")


def test_the_packs_entry_has_the_keys_of_managers_own_and_names_the_repository(managers):
    own = managers("custom-node-list.json")["custom_nodes"]
    (entry,) = entries("custom-node-list.json", "custom_nodes")
    assert tuple(entry) == REQUIRED
    assert REQUIRED in {tuple(other) for other in own}
    assert (entry["id"], entry["reference"], entry["files"]) == ("ipadapter-instruct", ADDRESS, [ADDRESS])
    assert entry["install_type"] in {other["install_type"] for other in own}
    assert f'PublisherId = "{entry["author"]}"' in PYPROJECT


def test_no_other_pack_has_its_id_its_title_or_one_of_its_nodes(managers):
    own = managers("custom-node-list.json")["custom_nodes"]
    (entry,) = entries("custom-node-list.json", "custom_nodes")
    assert entry["id"] not in {other.get("id") for other in own}
    assert entry["title"] not in {other["title"] for other in own}
    ours = json.loads((REPO_ROOT / "node_list.json").read_text(encoding="utf-8"))
    others = {name for names, _ in managers("extension-node-map.json").values() for name in names}
    assert not others & set(ours)
