"""The files that a soak's prompts name: what is in each now, and changes to them between prompts."""

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from comfyhost.adapters import SHAPES, Plain, instruct_adapter, plain_adapter
from comfyhost.checkpoints import MMDITS, UNETS, checkpoint, cross_attention_widths, joint_block_widths, lora
from comfyhost.encoders import clip_text, vit_h
from comfyhost.places import REPO_ROOT, cache_folder, cached_host
from comfyhost.standins import VIT_H, StandIn, link_into, whole, write_stand_ins
from comfyhost.weights import Blueprint
from PIL import Image

SD15, SDXL, SD3 = "sd15", "sdxl", "sd3"
STACK = {"width": 128, "heads": 2, "blocks": 2}  # of the adapters' resamplers
PLAIN = {
    "base": Plain("base"),
    "plus": Plain("plus", tokens=8, image=1280, **STACK),
    "full-face": Plain("full-face", image=1280),
    "faceid": Plain("faceid", rank=4),
    "faceid-plus": Plain("faceid-plus", image=1280, rank=4, blocks=1),
    "faceid-resampler": Plain("faceid-resampler", tokens=8, image=512, **STACK),
}


@dataclass(frozen=True)
class Adapter:
    """The content of an adapter file: for which family, of which kind, drawn by which seed."""

    family: str
    kind: str
    seed: int

    @property
    def reads_face(self) -> bool:
        return self.kind.startswith("faceid")

    @property
    def reads_image(self) -> bool:
        return self.kind not in ("faceid", "faceid-resampler")

    def blueprint(self) -> Blueprint:
        """A small adapter of the kind, for the smallest denoiser of the family."""
        joint = self.family == SD3
        sites = joint_block_widths(MMDITS[SD3]) if joint else cross_attention_widths(UNETS[self.family])
        if self.kind == "instruct":
            return instruct_adapter(self.family, sites, width=128, heads=2)
        return plain_adapter(replace(PLAIN[self.kind], token_width=SHAPES[self.family].token_width), sites)


@dataclass(frozen=True)
class Stored:
    """The content of a file that a node of the pack saved: embeds of an adapter, or a face. digest: of the content."""

    digest: str
    adapter: Adapter | None = None


State = dict[str, Adapter | Stored | None]  # of files by name; None where there is none
ADAPTERS = {
    "instruct-a.bin": Adapter(SD15, "instruct", 1),
    "instruct-b.safetensors": Adapter(SD15, "instruct", 2),
    "base.safetensors": Adapter(SD15, "base", 3),
    "plus.bin": Adapter(SD15, "plus", 4),
    "full-face.safetensors": Adapter(SD15, "full-face", 5),
    "faceid.bin": Adapter(SD15, "faceid", 6),
    "faceid-plusv2.safetensors": Adapter(SD15, "faceid-plus", 7),
    "faceid-plus.safetensors": Adapter(SD15, "faceid-plus", 8),
    "xl-instruct-a.safetensors": Adapter(SDXL, "instruct", 9),
    "xl-instruct-b.bin": Adapter(SDXL, "instruct", 10),
    "xl-plus.safetensors": Adapter(SDXL, "plus", 11),
    "xl-portrait-unnorm.bin": Adapter(SDXL, "faceid-resampler", 12),
    "3-instruct-a.safetensors": Adapter(SD3, "instruct", 13),
    "3-instruct-b.bin": Adapter(SD3, "instruct", 14),
}
SMALL_VIT_H, TEXT_TOWER, LORA = "small-vit-h.safetensors", "small-clip-l.safetensors", "small-lora.safetensors"
MODELS = (
    StandIn("checkpoints/sd15.safetensors", lambda: checkpoint("sd15")),
    StandIn("checkpoints/sdxl.safetensors", lambda: checkpoint("sdxl", clip_g=True)),
    StandIn("checkpoints/sd3.safetensors", lambda: checkpoint("sd3")),
    StandIn(f"clip_vision/{SMALL_VIT_H}", lambda: vit_h(layers=2)),
    StandIn(f"text_encoders/{TEXT_TOWER}", lambda: clip_text(768, layers=2)),
    StandIn(f"loras/{LORA}", lambda: lora(UNETS["sd15"])),
)
EMBEDS = tuple(f"stored-{number}.instruct.safetensors" for number in range(4))
FACES = tuple(f"stored-{number}.face.safetensors" for number in range(2))
FOREIGN, OTHER, TOUCHED, GONE = "another family's", "of another training", "touched", "deleted"
CHANGES = (TOUCHED, OTHER, OTHER, FOREIGN, GONE)  # as often as they stand here
# Width and height; those with "cut" in their names are transparent outside an ellipse.
PICTURES = {"wide.png": (192, 80), "tall.png": (64, 160), "cut-1.png": (120, 96), "cut-2.png": (96, 128)}
PHOTOS = {"one-face.png": 1, "two-faces.png": 2}  # how many faces are found in each
FACE_PACKS = ("buffalo_l", "antelopev2")


class Files:
    """The folders of a soaked server below `base`. state: the content of each file that changes, None for none."""

    def __init__(self, base: Path):
        self.base, self.models, self.cache = base, base / "own-models", cache_folder() / "soak-models"
        self.state: State = {**ADAPTERS, **dict.fromkeys((*EMBEDS, *FACES))}
        self.stored = 0

    def build(self) -> None:
        """Write everything but what a server must save first. Models are kept for the next soak."""
        ordinary = cached_host().models
        write_stand_ins(ordinary, (VIT_H,))
        write_stand_ins(self.cache, MODELS)
        link_into(self.cache, ordinary / VIT_H.path)
        for folder in (self.models, self.base / "input", self.base / "kept", self.base / "custom_nodes"):
            folder.mkdir(parents=True)
        for folder in sorted({Path(model.path).parent for model in MODELS}):
            (self.models / folder).symlink_to(self.cache / folder)
        for name, adapter in ADAPTERS.items():
            self.put(name, adapter)
        write_pictures(self.base / "input")
        write_faces(self.models / "insightface" / "models", self.base / "input")
        (self.base / "custom_nodes" / "soak-probe").symlink_to(REPO_ROOT / "tools" / "soak" / "probe")

    def put(self, name: str, content: Adapter | Stored) -> None:
        """Put content into a file as a finished download or a copy would: moved to its place when it is whole."""
        if isinstance(content, Adapter):
            path = f"adapters/{content.family}-{content.kind}-{content.seed}{Path(name).suffix}"
            made = StandIn(path, content.blueprint, seed=content.seed)
            write_stand_ins(self.cache, (made,))
            source = self.cache / made.path
        else:
            source = self.base / "kept" / content.digest
        self.path(name).parent.mkdir(exist_ok=True)
        with whole(self.path(name)) as partial:
            shutil.copyfile(source, partial)
        self.state[name] = content

    def store(self, made: Path, content: Stored) -> None:
        """Take a file that a server has saved as one to load, in the place of the oldest when there are many."""
        shutil.copyfile(made, self.base / "kept" / content.digest)
        names = EMBEDS if content.adapter else FACES
        self.put(names[self.stored % len(names)], content)
        self.stored += 1

    def change(self, name: str, how: str) -> None:
        """Change a file; what a server saved is overwritten by another of its kind, or goes where there is none."""
        content, alike = self.state[name], EMBEDS if name in EMBEDS else FACES
        others = [self.state[other] for other in alike if self.state[other] not in (None, content)]
        if how == TOUCHED:
            os.utime(self.path(name))
        elif how == GONE or not (name in ADAPTERS or others):
            self.path(name).unlink()
            self.state[name] = None
        elif name not in ADAPTERS:
            self.put(name, others[0])
        elif how == OTHER:
            self.put(name, replace(ADAPTERS[name], seed=ADAPTERS[name].seed + 100))
        else:
            family = SDXL if content.family == SD15 else SD15
            self.put(name, Adapter(family, "instruct", 1))

    def changed(self) -> list[str]:
        """The adapters that are not as they were at first."""
        return [name for name, adapter in ADAPTERS.items() if self.state[name] != adapter]

    def path(self, name: str) -> Path:
        return self.models / "ipadapter" / name if name in ADAPTERS else self.base / "input" / name


def write_pictures(folder: Path) -> None:
    """Write coloured noise, coarse enough to survive an encoder's resizing; some with a transparent rim."""
    for seed, (name, (width, height)) in enumerate(PICTURES.items()):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        if "cut" in name:
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            picture.putalpha(Image.fromarray((x**2 + y**2 < 0.6).astype(np.uint8) * 255))
        picture.save(folder / name)


def write_faces(packs: Path, pictures: Path) -> None:
    """Write small detection and recognition models, and photos in which they find faces."""
    sys.path.append(str(REPO_ROOT / "tests"))
    from support.face_models import Mark, image_of, save_pack

    for seed, name in enumerate(FACE_PACKS):
        save_pack(packs / name, seed=seed)
    marks = (Mark(160, 160), Mark(416, 384, reach=3.0, turn=0.5))
    for name, number in PHOTOS.items():
        pixels = image_of(marks[:number])[0].mul(255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(pictures / name)
