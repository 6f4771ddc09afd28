"""The folders that a soak's server works in, what is in their files now, and changes to them between prompts."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from comfyhost.adapters import Shape, cross_sites, joint_sites, resampler
from comfyhost.additions import lora
from comfyhost.checkpoints import MMDITS, UNETS, checkpoint
from comfyhost.denoisers import cross_attention_widths, joint_block_widths
from comfyhost.encoders import clip_text, vit_h
from comfyhost.places import REPO_ROOT, cached_host
from comfyhost.plain_adapters import Plain, plain_adapter
from comfyhost.standins import VIT_H as VIT_H_STAND_IN
from comfyhost.standins import StandIn, save, whole, write_stand_ins
from comfyhost.weights import Blueprint, draw
from PIL import Image

from soak import catalogue
from soak.catalogue import ADAPTERS, FACE_PACKS, PHOTOS, PICTURES, SD3, SDXL, Adapter

WIDTHS = {"sd15": 768, SDXL: 2048, SD3: 4096}
WIDTH, HEADS = 128, 2  # of the adapters' resamplers
STACK = {"width": WIDTH, "heads": HEADS, "blocks": 2}
LAST_LAYERS = {SD3: ("proj_out_big", "norm_out_big")}
CHECKPOINT_FILES = (
    StandIn(f"checkpoints/{catalogue.CHECKPOINTS['sd15']}", lambda: checkpoint("sd15")),
    StandIn(f"checkpoints/{catalogue.CHECKPOINTS[SDXL]}", lambda: checkpoint("sdxl", clip_g=True)),
    StandIn(f"checkpoints/{catalogue.CHECKPOINTS[SD3]}", lambda: checkpoint("sd3")),
    StandIn(f"clip_vision/{catalogue.SMALL_VIT_H}", lambda: vit_h(layers=2)),
    StandIn(f"text_encoders/{catalogue.TEXT_TOWER}", lambda: clip_text(768, layers=2)),
    StandIn(f"loras/{catalogue.LORA}", lambda: lora(UNETS["sd15"])),
)
KEPT = ".soak"  # beside the models: what may come into the place of a file


def blueprint(adapter: Adapter) -> Blueprint:
    """A small adapter of the kind, for the smallest denoiser of the family."""
    token_width = WIDTHS[adapter.family]
    is_joint = adapter.family == SD3
    sites = joint_block_widths(MMDITS[SD3]) if is_joint else cross_attention_widths(UNETS[adapter.family])
    if not adapter.takes_instruction:
        return plain_adapter(_plain(adapter, token_width), sites)
    parts = Blueprint()
    last = LAST_LAYERS.get(adapter.family, ("proj_out", "norm_out"))
    parts.add("image_proj.", resampler(Shape(WIDTH, HEADS, token_width, last)))
    parts.add("ip_adapter.", joint_sites(sites) if is_joint else cross_sites(sites, token_width))
    return parts


def _plain(adapter: Adapter, token_width: int) -> Plain:
    return {
        "base": Plain("base", token_width),
        "plus": Plain("plus", token_width, tokens=8, image=1280, **STACK),
        "full-face": Plain("full-face", token_width, image=1280),
        "faceid": Plain("faceid", token_width, rank=4),
        "faceid-plus": Plain("faceid-plus", token_width, image=1280, width=token_width, heads=12, rank=4, blocks=1),
        "faceid-resampler": Plain("faceid-resampler", token_width, tokens=8, image=512, **STACK),
    }[adapter.kind]


class World:
    """The folders below `base`. state: what each file that changes holds now, None for one that is gone."""

    def __init__(self, base: Path):
        self.base = base
        self.models = base / "own-models"
        self.state: dict[str, Adapter | str | None] = {}

    def build(self) -> None:
        """Write everything but stored embeds and faces, which a server must make."""
        write_stand_ins(self.models, CHECKPOINT_FILES)
        ordinary = cached_host().models
        write_stand_ins(ordinary, (VIT_H_STAND_IN,))
        link = self.models / VIT_H_STAND_IN.path
        if not link.exists():
            link.symlink_to(ordinary / VIT_H_STAND_IN.path)
        for name, adapter in ADAPTERS.items():
            self.put_adapter(name, adapter)
        (self.base / "input").mkdir(parents=True, exist_ok=True)
        write_pictures(self.base / "input")
        write_face_packs(self.models / "insightface" / "models", self.base / "input")
        nodes = self.base / "custom_nodes"
        nodes.mkdir(exist_ok=True)
        (nodes / "soak-probe").symlink_to(REPO_ROOT / "tools" / "soak" / "probe", target_is_directory=True)

    def put_adapter(self, name: str, adapter: Adapter) -> None:
        """Put the adapter into the file as a finished download or a copy would: moved to its place when it is whole."""
        kept = self.models / KEPT / f"{adapter.family}-{adapter.kind}-{adapter.seed}{Path(name).suffix}"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            save(draw(blueprint(adapter), adapter.seed, torch.float16), kept, kept.suffix)
        self._replace(kept, self.models / "ipadapter" / name)
        self.state[name] = adapter

    def keep_prepared(self, name: str, made: Path) -> None:
        """Take a file that a server has saved as what is stored under this name."""
        kept = self.models / KEPT / name
        shutil.copyfile(made, kept)
        self.put_stored(name, name)

    def put_stored(self, name: str, content: str) -> None:
        """Put what was prepared as `content` into a file of embeds or faces."""
        self._replace(self.models / KEPT / content, self.base / "input" / name)
        self.state[name] = content

    def delete(self, name: str) -> None:
        self.path(name).unlink()
        self.state[name] = None

    def touch(self, name: str) -> None:
        os.utime(self.path(name))

    def restore(self, name: str) -> None:
        """Put back what was in the file at first."""
        if name in ADAPTERS:
            self.put_adapter(name, ADAPTERS[name])
        else:
            self.put_stored(name, name)

    def path(self, name: str) -> Path:
        return self.models / "ipadapter" / name if name in ADAPTERS else self.base / "input" / name

    def changed(self) -> list[str]:
        """The files that do not hold what they did at first."""
        return [name for name, content in self.state.items() if content != ADAPTERS.get(name, name)]

    @staticmethod
    def _replace(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            shutil.copyfile(source, partial)


class Changes:
    """Random changes to a world's files. counts: how many of each kind were made."""

    STAYING = 3  # files that are changed at the same time, at most

    def __init__(self, world: World, drawn: random.Random):
        self.world = world
        self.random = drawn
        self.counts: dict[str, int] = {}

    def between_prompts(self, wanted: Sequence[str]) -> list[str]:
        """Change a file or two, mostly of those wanted next, and say what was done. Changed files come back soon."""
        said = []
        for name in self.world.changed():
            if self.random.random() < 0.45 or len(self.world.changed()) > self.STAYING:
                self.world.restore(name)
                said.append(self._count("put back", name))
        if self.random.random() < 0.5:
            files = list(wanted) if wanted and self.random.random() < 0.7 else list(self.world.state)
            name = self.random.choice(files)
            if self.world.state[name] is not None:
                said.append(self.change(name))
        return said

    def change(self, name: str) -> str:
        how = self.random.choice(("touched", "touched", "replaced", "replaced", "replaced", "deleted"))
        if how == "touched":
            self.world.touch(name)
        elif how == "deleted":
            self.world.delete(name)
        elif name in ADAPTERS:
            how = self._replace_adapter(name)
        else:
            suffix = name.partition(".")[2]
            others = [one for one in self.world.state if one.endswith(suffix) and one != self.world.state[name]]
            self.world.put_stored(name, self.random.choice([one for one in others if one not in ADAPTERS]))
            how = f"{suffix.partition('.')[0]} file overwritten"
        return self._count(how, name)

    def _replace_adapter(self, name: str) -> str:
        own = ADAPTERS[name]
        if self.random.random() < 0.25:
            others = [one for one in ADAPTERS.values() if one.family != own.family and one.takes_instruction]
            self.world.put_adapter(name, self.random.choice(others))
            return "replaced by another family's"
        self.world.put_adapter(name, own.other())
        return "replaced by another's content"

    def _count(self, how: str, name: str) -> str:
        self.counts[how] = self.counts.get(how, 0) + 1
        return f"{name} {how}"


def write_pictures(folder: Path) -> None:
    """Write coloured noise, coarse enough to survive an encoder's resizing; some with a transparent rim."""
    for seed, (name, (width, height)) in enumerate(PICTURES.items()):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        if name in catalogue.CUT_OUT:
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            inside = (x**2 + y**2 < 0.6).astype(np.uint8) * 255
            picture.putalpha(Image.fromarray(inside))
        picture.save(folder / name)


def write_face_packs(packs: Path, pictures: Path) -> None:
    """Write small detection and recognition models, and photos in which they find faces."""
    sys.path.append(str(REPO_ROOT / "tests"))
    from support.face_models import Mark, image_of, save_pack

    for seed, name in enumerate(FACE_PACKS):
        if not (packs / name).exists():
            save_pack(packs / name, seed=seed)
    marks = (Mark(160, 160), Mark(416, 384, reach=3.0, turn=0.5))
    for name, number in PHOTOS.items():
        pixels = image_of(marks[:number])[0].mul(255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(pictures / name)
