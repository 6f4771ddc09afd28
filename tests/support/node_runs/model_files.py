"""Model folders with adapters that fit and encoders that do not, and the nodes that read them."""

import pytest
import torch
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader

from support import pack_nodes, readable_adapters, small_files
from support.pack_nodes import run_node

GET_VIT_H = (
    "Get https://huggingface.co/h94/IP-Adapter/resolve/main/models/image_encoder/model.safetensors , save it as "
    "models/clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """ComfyUI's model folders with an adapter of each family, and files that are wrong. A conftest.py imports it."""
    with pack_nodes.model_folders(tmp_path_factory.mktemp("models")) as folders:
        for family in ("sd15", "sdxl", "sd3"):
            small_files.save_adapter(
                small_files.adapter_tensors(family), folders["ipadapter"] / f"{family}.safetensors"
            )
        lacking = small_files.adapter_tensors("sd15")
        del lacking["image_proj.proj_in.weight"], lacking["ip_adapter.3.to_v_ip.weight"]
        small_files.save_adapter(lacking, folders["ipadapter"] / "lacking.bin")
        small_files.save_encoder_header(folders["clip_vision"] / "vit-l.safetensors", 1024)
        small_files.save_encoder_header(folders["clip_vision"] / "bigg.safetensors", 1664, "open_clip")
        yield folders


def load(adapter: str = "sd15.safetensors", image_encoder: str = "auto"):
    return run_node(IPAdapterInstructLoader, adapter_name=adapter, image_encoder=image_encoder, lora_strength=1.0).args[
        0
    ]


def encode(vit_h, adapter=None, **changes):
    inputs = {"image": torch.rand(2, 40, 50, 3), "instruction": "use the style", **changes}
    return readable_adapters.encoded(adapter or load(), vit_h, **inputs)
