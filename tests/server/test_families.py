"""SDXL and SD3: their shipped workflows on files of their own, and adapters of another family on their models."""

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
from support import small_files
from support.servers import stand_in_models

LOADER, APPLY = "IPAdapterInstructLoader", "IPAdapterInstructApply"
SIZE = 128


class Shipped:
    """A family's shipped workflow, small and in one step; its files are there."""

    def __init__(self, family: str, server):
        self.family, self.server = family, server
        self.log_before = len(server.log_text())
        options = demo.parse(["--family", family, "--size", str(SIZE), "--steps", "1"])
        workflow = demo.workflow_at(REPO_ROOT / "workflows" / f"instruct_{family}.json")
        stand_in_models.put_in_place(family)
        with Client(server.url) as client:
            self.prompt = ApiPrompt(demo.prepare(workflow, client, demo.changes_of(options)))

    def log(self) -> str:
        """The lines that the server has logged since."""
        return self.server.log_text()[self.log_before :]


@pytest.fixture(
    scope="module", params=[pytest.param("sdxl", marks=pytest.mark.long("a UNet, as SD1.5's elsewhere")), "sd3"]
)
def shipped(request, server) -> Iterator[Shipped]:
    """One family after the other, since loading one takes a while; its models are let go at the end."""
    yield Shipped(request.param, server)
    with Client(server.url) as client:
        client.post("/free", unload_models=True, free_memory=True)


def picture(client: Client, prompt: dict) -> np.ndarray:
    """Run it; its only picture, [H, W, 3] of 0..255."""
    (image,) = client.run(prompt).images()
    return np.asarray(Image.open(io.BytesIO(client.download(image))).convert("RGB"))


def test_the_shipped_workflow_makes_a_picture_with_every_weight_of_the_checkpoint_found(client, shipped):
    made = picture(client, shipped.prompt)
    assert made.shape == (SIZE, SIZE, 3)
    assert made.std() > 1, "the picture is one flat colour"
    log = shipped.log()
    assert "CLIP/text encoder model load" in log
    assert "missing" not in log.lower()  # ComfyUI warns: clip missing, unet missing, Missing VAE keys


def test_the_adapter_acts_and_weight_0_is_the_bare_model(client, shipped):
    bare = picture(client, shipped.prompt.changed("KSampler", model=shipped.prompt.output("CheckpointLoaderSimple")))
    assert np.array_equal(picture(client, shipped.prompt.changed(APPLY, weight=0.0)), bare)
    assert (picture(client, shipped.prompt) != bare).any()


def test_the_apply_node_shows_what_auto_chose_for_the_family(client, shipped):
    """No family but SD1.5 changes the weight; a face is guided simply by SDXL, in three ways by SD3."""
    chosen = {
        "sdxl": {"face": "simple, weight: 0.9", "composition": "three-way, weight: 0.9"},
        "sd3": {"face": "three-way, weight: 0.8", "pose": "three-way, weight: 0.8"},
    }
    for task, choice in chosen[shipped.family].items():
        prompt = shipped.prompt.changed("IPAdapterInstructEncode", task=task)
        shown = client.run(prompt).outputs[prompt.id(APPLY)]["text"]
        assert shown[0] == f"guidance: {choice}"
        assert [line.split(":")[0] for line in shown[1:]] == ["auto", "passes a step"]


OTHERS = {
    ("sdxl", "sd15"): ("for SD1.5 (context width 768)", "is SDXL (2048)", "load the SDXL adapter"),
    ("sdxl", "sd3"): ("for SD3 (context width 4096)", "(SDXL) is not SD3's", "Connect an SD3 model"),
    ("sd3", "sd15"): ("for SD1.5 (context width 768)", "(SD3) is not SD1.5's", "Connect an SD1.5 model"),
    ("sd3", "sdxl"): ("for SDXL (context width 2048)", "(SD3) is not SDXL's", "Connect an SDXL model"),
}


def test_an_adapter_of_another_family_is_refused_and_the_next_run_succeeds(client, models, shipped):
    others = {adapter: words for (model, adapter), words in OTHERS.items() if model == shipped.family}
    for adapter, words in others.items():
        path = models / "ipadapter" / f"wrong-{adapter}.safetensors"
        small_files.save_adapter(small_files.adapter_tensors(adapter), path)
        prompt = shipped.prompt.changed(LOADER, adapter_name=path.name)
        prompt["kept"] = shipped.prompt[prompt.id(LOADER)]  # so that ViT-H is not read again

        with pytest.raises(NodeFailedError) as failure:
            client.run(prompt)

        assert failure.value.node_type == APPLY
        rest = failure.value.reason
        for part in words:
            assert part in rest, f"{part!r} should stand in the rest of: {failure.value}"
            rest = rest.split(part, 1)[1]
    assert client.run(shipped.prompt).images()
