"""Wrong model files, chosen in the shipped workflow: the node says so before anything is sampled, and work goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from comfyhost.checkpoints import checkpoint
from comfyhost.weights import draw
from ipadapter_instruct.commands.servers.client import NodeFailedError, Progress
from safetensors.torch import save_file
from support import small_files

LOADER, ENCODE, APPLY = "IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructApply"
INPUTS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
    "clip_vision": (LOADER, "image_encoder"),
    "ipadapter": (LOADER, "adapter_name"),
}
AN_ADAPTER = "An IPAdapter-Instruct or IP-Adapter file was expected"
GET_AN_ADAPTER = "Put a published IPAdapter-Instruct file"
GET_VIT_H = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"


@dataclass(frozen=True)
class Wrong:
    """A file to write and choose, the node that refuses it, and its words in their order."""

    path: str
    write: Callable[[Path], object]
    refused_by: str
    words: tuple[str, str, str]


class CreatesAFile:
    """Unpickled without care, it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def marker(path: Path) -> Path:
    """The file that the code in a file would leave beside it."""
    return path.with_name("code-was-run")


def holding(name: str) -> Callable[[Path], object]:
    return lambda path: save_file({name: torch.zeros(2, 2)}, path)


def write_cut_short(path: Path) -> None:
    small_files.save_adapter(small_files.adapter_tensors(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_with_code(path: Path) -> None:
    torch.save({"image_proj": {"latents": CreatesAFile(marker(path))}}, path)


def write_incomplete(path: Path) -> None:
    tensors = small_files.adapter_tensors()
    del tensors["ip_adapter.3.to_v_ip.weight"]
    small_files.save_adapter(tensors, path)


def write_without_clip(path: Path) -> None:
    save_file(draw(checkpoint("sd15", clip_l=False), seed=0, dtype=torch.float16), path)


WRONG = {
    "a file that is not there": Wrong(
        "ipadapter/nothing.bin",
        lambda path: None,
        LOADER,
        ("nothing.bin was expected in", "is not there", "Put it there, or refresh the page"),
    ),
    "a LoRA": Wrong(
        "ipadapter/lora.safetensors",
        holding("lora_unet_down_blocks_0_attentions_0_to_q.lora_up.weight"),
        LOADER,
        (AN_ADAPTER, "this is a LoRA", "Load it with Load LoRA"),
    ),
    "a VAE": Wrong(
        "ipadapter/vae.safetensors",
        holding("decoder.conv_in.weight"),
        LOADER,
        (AN_ADAPTER, "this is a VAE", "Load it with Load VAE"),
    ),
    "a file cut short": Wrong(
        "ipadapter/short.safetensors",
        write_cut_short,
        LOADER,
        ("short.safetensors was expected to be a file of tensors", "cut short", "Download it again"),
    ),
    "a pickle with code": Wrong(
        "ipadapter/code.bin",
        write_with_code,
        LOADER,
        ("code.bin was expected to hold tensors only", "asks Python to run io.open", "from a source you trust"),
    ),
    "an adapter without one of its tensors": Wrong(
        "ipadapter/incomplete.safetensors",
        write_incomplete,
        LOADER,
        (AN_ADAPTER, "missing: ip_adapter.3.to_v_ip.weight", "Download it again"),
    ),
    "an SDXL adapter on SD1.5": Wrong(
        "ipadapter/sdxl.safetensors",
        lambda path: small_files.save_adapter(small_files.adapter_tensors("sdxl"), path),
        APPLY,
        ("for SDXL (context width 2048)", "the connected model is SD1.5 (768)", "load the SD1.5 adapter"),
    ),
    "ViT-L as image encoder": Wrong(
        "clip_vision/vit-l.safetensors",
        lambda path: small_files.save_encoder_header(path, 1024),
        LOADER,
        ("needs the image encoder ViT-H (1280 wide)", "vit-l.safetensors is ViT-L (1024 wide)", GET_VIT_H),
    ),
    "ViT-bigG as image encoder": Wrong(
        "clip_vision/bigg.safetensors",
        lambda path: small_files.save_encoder_header(path, 1664, "open_clip"),
        LOADER,
        ("needs the image encoder ViT-H (1280 wide)", "bigg.safetensors is ViT-bigG (1664 wide)", GET_VIT_H),
    ),
    "a checkpoint without CLIP": Wrong(
        "checkpoints/no-clip.safetensors",
        write_without_clip,
        ENCODE,
        ("A CLIP was expected", "the checkpoint holds no text encoder", "Connect a Load CLIP"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_before_sampling_and_the_next_run_succeeds(client, models, tiny, with_auto, case):
    wrong = WRONG[case]
    path = models / wrong.path
    wrong.write(path)  # while the server runs, as a download would arrive
    kind, name = INPUTS[path.parent.name]
    base = with_auto if name == "image_encoder" else tiny  # which has one connected
    graph = base.changed(kind, **{name: path.name})
    begun: list[Progress] = []

    with pytest.raises(NodeFailedError) as failure:
        client.run(graph, begun.append)

    assert failure.value.node_type == wrong.refused_by
    rest = failure.value.reason
    for words in wrong.words:
        assert words in rest, f"{words!r} should stand in the rest of: {failure.value}"
        rest = rest.split(words, 1)[1]
    assert tiny.id("KSampler") not in {progress.node_id for progress in begun}
    assert not marker(path).exists()

    own_seed = list(WRONG).index(case)  # or a ComfyUI that keeps results of earlier prompts would run nothing
    run = client.run(tiny.changed("KSampler", steps=1, seed=own_seed))
    assert tiny.id("KSampler") in run.seconds
    assert len(run.images()) == 1
