"""The workflows' notes, in the words of notes.md, and the model files that the nodes name.

A file is an entry of a node's properties.models, by which the page offers a missing one.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from comfyhost.in_process import pack_module

published_files = pack_module("models.files.published_files")
tasks = pack_module("models.guidance.tasks")

WORDS = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
NOTES = dict(re.findall(r"^# (\S+)\n\n(.+?)\n*(?=^# |\Z)", WORDS, re.MULTILINE | re.DOTALL))
LISTED_TASK = re.compile(r"^- \*\*(\w+)\*\*: .+\n", re.MULTILINE)


def on_hub(directory: str, repository: str, path: str) -> dict:
    url = f"{published_files.HUGGING_FACE}/{repository}{published_files.MAIN}{path}"
    return {"name": path.rpartition("/")[2], "url": url, "directory": directory}


def published(file) -> dict:
    """List a file that the pack itself knows, with its digest where that is known."""
    entry = {"name": file.name, "url": file.url, "directory": file.folder}
    return {**entry, "hash": file.sha256, "hash_type": "sha256"} if file.sha256 else entry


CHECKPOINTS = {
    "sd15": on_hub("checkpoints", "Comfy-Org/stable-diffusion-v1-5-archive", "v1-5-pruned-emaonly-fp16.safetensors"),
    "sdxl": on_hub("checkpoints", "stabilityai/stable-diffusion-xl-base-1.0", "sd_xl_base_1.0.safetensors"),
    "sd3": on_hub("checkpoints", "stabilityai/stable-diffusion-3-medium", "sd3_medium_incl_clips.safetensors"),
}
ADAPTERS = {family: published(file) for family, file in published_files.ADAPTERS.items()}
ENCODER = published(published_files.IMAGE_ENCODER)
PLAIN = on_hub("ipadapter", "h94/IP-Adapter", "models/ip-adapter_sd15.safetensors")
PLUS = on_hub("ipadapter", "h94/IP-Adapter", "models/ip-adapter-plus_sd15.safetensors")
PLAIN_SDXL = on_hub("ipadapter", "h94/IP-Adapter", "sdxl_models/ip-adapter_sdxl_vit-h.safetensors")
FACE_ID = on_hub("ipadapter", "h94/IP-Adapter-FaceID", "ip-adapter-faceid_sd15.bin")
CONTROLNETS = {
    kind: on_hub(
        "controlnet", "comfyanonymous/ControlNet-v1-1_fp16_safetensors", f"control_v11p_sd15_{kind}_fp16.safetensors"
    )
    for kind in ("canny", "scribble", "openpose")
}
BIREFNET = on_hub("background_removal", "Comfy-Org/BiRefNet", "background_removal/birefnet.safetensors")
LANDMARKER = on_hub("detection", "Comfy-Org/mediapipe", "detection/mediapipe_face_fp32.safetensors")
SAM = on_hub("checkpoints", "Comfy-Org/sam3.1", "checkpoints/sam3.1_multiplex_fp16.safetensors")


def text_of(workflow: str, family, files: Sequence[dict]) -> str:
    """Return the note of a workflow, with the list of files that it needs. family: its row in models.families."""
    lines = [f"- models/{f['directory']}: [{f['name']}]({f['url']}){NOTES.get(f['name'], '')}" for f in files]
    listed = ["", "**Files**", "", *dict.fromkeys(lines)] if lines else []
    return "\n".join([NOTES.get(workflow) or family_note(family), *listed])


def family_note(family) -> str:
    """Say what to try with a family's plain workflow: the tasks that it was trained on, and its settings."""
    trained = [task.name for task in tasks.TASKS if family in task.families]
    words = LISTED_TASK.sub(lambda line: line[0] if line[1] in trained else "", NOTES["instruct"])
    stronger = [
        f" ({scale:g} for the {name})" for names, scale in family.stronger_tasks for name in trained if name in names
    ]
    facts = {"title": family.title, "stronger": "".join(stronger), "remark": NOTES[family.name]}
    return words.format(**facts, **asdict(family.settings))
