"""The model files that the workflows name, as entries of a node's properties.models."""

from __future__ import annotations

from comfyhost.in_process import pack_module

published_files = pack_module("models.files.published_files")


def at_hugging_face(directory: str, repository: str, path: str) -> dict:
    url = f"{published_files.HUGGING_FACE}/{repository}{published_files.MAIN}{path}"
    return {"name": path.rpartition("/")[2], "url": url, "directory": directory}


def published(file) -> dict:
    """List a file that the pack itself knows, with its digest where that is known."""
    entry = {"name": file.name, "url": file.url, "directory": file.folder}
    return {**entry, "hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else entry


SD15 = "Comfy-Org/stable-diffusion-v1-5-archive", "v1-5-pruned-emaonly-fp16.safetensors"
CHECKPOINTS = {
    "sd15": at_hugging_face("checkpoints", *SD15),
    "sdxl": at_hugging_face("checkpoints", "stabilityai/stable-diffusion-xl-base-1.0", "sd_xl_base_1.0.safetensors"),
    "sd3": at_hugging_face("checkpoints", "stabilityai/stable-diffusion-3-medium", "sd3_medium_incl_clips.safetensors"),
}
ADAPTERS = {family: published(file) for family, file in published_files.ADAPTERS.items()}
ENCODER = published(published_files.IMAGE_ENCODER)
PLAIN = at_hugging_face("ipadapter", "h94/IP-Adapter", "models/ip-adapter_sd15.safetensors")
PLUS = at_hugging_face("ipadapter", "h94/IP-Adapter", "models/ip-adapter-plus_sd15.safetensors")
FACE_ID = at_hugging_face("ipadapter", "h94/IP-Adapter-FaceID", "ip-adapter-faceid_sd15.bin")
CANNY = "comfyanonymous/ControlNet-v1-1_fp16_safetensors", "control_v11p_sd15_canny_fp16.safetensors"
CONTROLNET = at_hugging_face("controlnet", *CANNY)
