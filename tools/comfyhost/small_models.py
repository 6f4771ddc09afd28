"""Model files under the published names, small enough to run shipped workflows in seconds on a processor.

They lie in the cache folder, beside the ordinary stand-ins; each is written once.
"""

from __future__ import annotations

from pathlib import Path

from comfyhost.additions import controlnet
from comfyhost.checkpoints import UNETS
from comfyhost.denoisers import cross_attention_widths
from comfyhost.places import cache_folder, cached_host
from comfyhost.plain_adapters import Plain, plain_adapter
from comfyhost.standins import VIT_H, StandIn, checkpoint_and_adapter, write_stand_ins
from comfyhost.weights import Blueprint


def sd15_plain(sizes: Plain) -> Blueprint:
    return plain_adapter(sizes, cross_attention_widths(UNETS["sd15"]))


SMALL_MODELS = (
    *(stand_in for family in ("sd15", "sdxl", "sd3") for stand_in in checkpoint_and_adapter(family, kind=family)),
    StandIn("ipadapter/ip-adapter_sd15.safetensors", lambda: sd15_plain(Plain("base"))),
    StandIn("ipadapter/ip-adapter-plus_sd15.safetensors", lambda: sd15_plain(Plain("plus", tokens=16, image=1280))),
    StandIn("ipadapter/ip-adapter-faceid_sd15.bin", lambda: sd15_plain(Plain("faceid", rank=8))),
    StandIn("controlnet/control_v11p_sd15_canny_fp16.safetensors", lambda: controlnet(UNETS["sd15"])),
)


def small_models() -> Path:
    """The models folder with all of them; the image encoder, of which there is no small one, is a link."""
    ordinary = cached_host().models
    write_stand_ins(ordinary, (VIT_H,))
    folder = cache_folder() / "small-models"
    write_stand_ins(folder, SMALL_MODELS)
    link_into(folder, ordinary / VIT_H.path)
    return folder


def link_into(folder: Path, encoder: Path) -> None:
    """Link the image encoder into the folder under its published name."""
    link = folder / VIT_H.path
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(encoder)
