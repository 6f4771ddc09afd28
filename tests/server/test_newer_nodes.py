"""The shipped workflows with ComfyUI's newer nodes, run on a ComfyUI that has them (COMFYUI_PATH), with stand-ins.

Two of those have the published sizes, since ComfyUI knows no others: minutes on a processor.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from comfyhost.install import run
from comfyhost.places import REPO_ROOT, host
from ipadapter_instruct.commands.servers.api_prompt import to_prompt
from ipadapter_instruct.commands.servers.client import Client
from PIL import Image
from support.newer_nodes import skip_unless_known
from support.servers import newer_models

PREPARE, SHOWN, SAVED = "IPAdapterInstructPrepare", "PreviewImage", "SaveImage"
FILES = dict(zip(("object_background_removed", "face_found", "object_by_words"), newer_models.MODELS, strict=True))
# Random weights find nothing for sure, and SAM takes long to look again at what it found.
FOUND_AT_ONCE = {"threshold": 0.0, "refine_iterations": 0}


@pytest.mark.long("of ComfyUI's nodes, with models of the published sizes")
@pytest.mark.parametrize("name", FILES)
def test_a_mask_that_nobody_drew_prepares_the_reference(client: Client, object_info, models: Path, shrink, name: str):
    workflow = json.loads((REPO_ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    skip_unless_known(workflow, object_info)
    run([host().python, newer_models.__file__, models, FILES[name]], timeout=1200)
    prompt = shrink(to_prompt(workflow, object_info))
    for inputs in (node["inputs"] for node in prompt.values()):
        inputs |= {one: value for one, value in FOUND_AT_ONCE.items() if one in inputs}
    made = client.run(prompt, timeout=1800).outputs
    shown, saved = (size(client, made[prompt.id(kind)]["images"]) for kind in (SHOWN, SAVED))
    assert saved == (128, 128)
    assert shown == (shown[0], shown[0])
    assert made[prompt.id(PREPARE)]["text"][-1] == f"square: {shown[0]} pixels"
    assert name != "face_found" or 200 < shown[0] < 400  # of 512: the stand-in's face is about half of that


def size(client: Client, images: list[dict]) -> tuple[int, int]:
    (image,) = images
    return Image.open(io.BytesIO(client.download(image))).size
