"""The small world's files where a ComfyUI finds them: a models folder of their own in the cache folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from comfyhost.install import only_one
from comfyhost.places import Host, host
from comfyhost.server import link

from small_world.encoders import ENCODERS
from small_world.files import STORED, checkpoint
from small_world.storage import world_folder

CHECKPOINT, TEXT_ENCODER, IMAGE_ENCODER = (f"small_world_{what}.safetensors" for what in ("sd3", "clip_l", "vit_h"))
ADAPTER = "small_world_joint.safetensors"


def comfyui_of_the_world() -> Host:
    """The ComfyUI in use with the world's models folder, in which what was missing is rebuilt from what is stored."""
    models = world_folder() / "models"
    with only_one(world_folder() / "models.lock"):
        for name, source in files():
            path = models / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (path.is_symlink() and path.readlink() == source):
                link(path, source)
    return replace(host(), models=models)


def files() -> Iterator[tuple[str, Path]]:
    """Names under models/, and the files."""
    yield f"checkpoints/{CHECKPOINT}", checkpoint()
    yield f"text_encoders/{TEXT_ENCODER}", ENCODERS["text"].built()
    yield f"clip_vision/{IMAGE_ENCODER}", ENCODERS["picture"].built()
    for adapter in sorted(STORED.glob("*.safetensors")):
        if adapter.name != "base.safetensors":
            yield f"ipadapter/small_world_{adapter.name}", adapter
