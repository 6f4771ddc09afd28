"""The model files that the workflows name, in the form in which nodes list them."""

from __future__ import annotations

from comfyhost.pack import pack_module

published = pack_module("models.files.published_files")

HUGGING_FACE = "https://huggingface.co/"
COMFY_SD15 = f"{HUGGING_FACE}Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors"
SDXL = f"{HUGGING_FACE}stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"
SD3 = f"{HUGGING_FACE}stabilityai/stable-diffusion-3-medium/resolve/main/sd3_medium_incl_clips.safetensors"
CANNY = (
    f"{HUGGING_FACE}comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/"
    "control_v11p_sd15_canny_fp16.safetensors"
)


def listed(url: str, directory: str, name: str = "", sha256: str = "") -> dict:
    """An entry of a node's properties.models."""
    entry = {"name": name or url.rsplit("/", 1)[1], "url": url, "directory": directory}
    return {**entry, "hash": sha256, "hash_type": "SHA256"} if sha256 else entry


CHECKPOINTS = {
    "sd15": listed(COMFY_SD15, "checkpoints"),
    "sdxl": listed(SDXL, "checkpoints"),
    "sd3": listed(SD3, "checkpoints"),
}
ADAPTERS = {family: listed(file.url, file.folder, sha256=file.sha256) for family, file in published.ADAPTERS.items()}
ENCODER = listed(
    published.IMAGE_ENCODER.url,
    published.IMAGE_ENCODER.folder,
    published.IMAGE_ENCODER.name,
    published.IMAGE_ENCODER.sha256,
)
PLAIN = listed(f"{HUGGING_FACE}h94/IP-Adapter/resolve/main/models/ip-adapter_sd15.safetensors", "ipadapter")
PLUS = listed(f"{HUGGING_FACE}h94/IP-Adapter/resolve/main/models/ip-adapter-plus_sd15.safetensors", "ipadapter")
FACE_ID = listed(f"{HUGGING_FACE}h94/IP-Adapter-FaceID/resolve/main/ip-adapter-faceid_sd15.bin", "ipadapter")
CONTROLNET = listed(CANNY, "controlnet")
