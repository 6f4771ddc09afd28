"""Random prompts: from files and words to embeds."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from comfyhost.places import REPO_ROOT
from comfyhost.standins import VIT_H
from comfyhost.workflow import ApiPrompt

from soak.files import (
    ADAPTERS,
    EMBEDS,
    FACES,
    LORA,
    PHOTOS,
    PICTURES,
    SD3,
    SD15,
    SDXL,
    SMALL_VIT_H,
    TEXT_TOWER,
    Adapter,
    State,
)

PACK = "IPAdapterInstruct"
NODES = json.loads((REPO_ROOT / "tests" / "data" / "node-schema.json").read_text(encoding="utf-8"))
FAMILIES = (*(SD15,) * 8, SDXL, SD3)
CONCAT, PER_INDEX, THEN = "concat", "one per batch index", "then"
INSTRUCTIONS = ("use the style", "use the composition", "use the face", "use the pose", "the object, a red car")
# Values of the pack's texts, and of what its schema leaves open or is not to be tried, by "node.input" or by name.
VALUES = {
    "background": ("random", "#808080", "orange"),
    "cell_width": (0, 64),
    "column_labels": ("", "one column"),
    "factors": ("0: 1, 0.35: 0.5", "1, 0.8, 0.5", "0: 0, 0.5: 1", "0.7", ""),
    "instruction": INSTRUCTIONS,
    "Loader.image_encoder": ("auto", VIT_H.path.rpartition("/")[2]),
    "negative_instruction": ("", "", "", INSTRUCTIONS[0]),
    "negative_prompt": ("", "blurry, low quality"),
    "prompt": ("a cat on a roof", "", "two people (talking:1.2) in the rain"),
    "Reference.instruction": ("", "", *INSTRUCTIONS),
    "save_as": ("", "", "faces/soak"),
    "weight_1": (1.0, 0.7, 1.5),
    "weight_2": (1.0, 0.4),
}
# The method that draws what a link brings; an input of another type is left out where it is not given.
MAKERS = {
    "CLIP,INSTRUCT_CLIP": "instruct_clip",
    "INSTRUCT_LAYERS": "layers",
    "INSTRUCT_SCHEDULE": "schedule",
    "MASK": "mask",
}


def values_of(kind: str, name: str, type_: str, more: Mapping) -> Sequence:
    """Return the values that are tried of an input of the pack: of a number its default and its ends."""
    if f"{kind}.{name}" in VALUES or name in VALUES:
        return VALUES.get(f"{kind}.{name}") or VALUES[name]
    if type_ == "BOOLEAN":
        return False, True
    if "max" in more:
        return more["default"], more["default"], more["min"], more["max"]
    return more.get("options") or ([more["default"]] if type_ == "STRING" else [])


def options(kind: str, name: str) -> list[str]:
    return next(more["options"] for _, of, _, more in NODES[PACK + kind]["inputs"] if of == name)


class Encoding:
    """A prompt being drawn: its family, how many latents it samples, and its way to embeds.

    offered: the server's samplers and schedulers. state: what is in the files now. watched: every adapter acts at each
    step and place.
    """

    def __init__(self, drawn_by: random.Random, offered: Mapping[str, list[str]], state: State):
        self.random, self.offered, self.state, self.graph = drawn_by, offered, state, ApiPrompt()
        self.family, self.batch = self.one(*FAMILIES), self.one(1, 1, 1, 2, 3)
        self.watched = self.one(False, False, True)

    def one(self, *values):
        return self.random.choice(values)

    def rarely(self) -> bool:
        return self.one(False, False, False, False, True)

    def often(self) -> bool:
        return self.one(False, True)

    def pack(self, kind: str, **given) -> str:
        """Add a node of the pack, with what is not given drawn by its schema, optional things at times."""
        for group, name, type_, more in NODES[PACK + kind]["inputs"]:
            values, maker = values_of(kind, name, type_, more), MAKERS.get(type_)
            if name in given or not (values or maker):
                continue
            if group == "required" or (self.often() if values else self.rarely()):
                given[name] = self.one(*values) if values else getattr(self, maker)()
        return self.graph.add(PACK + kind, **given)

    def out(self, kind: str, **given) -> list:
        """Return a link from the first output of a new node of the pack."""
        return [self.pack(kind, **given), 0]

    # Models and pictures

    def checkpoint(self) -> tuple[list, list, list]:
        """Load model, CLIP and VAE; at times behind a LoRA."""
        node = self.graph.add("CheckpointLoaderSimple", ckpt_name=f"{self.family}.safetensors")
        model, clip, vae = ([node, slot] for slot in range(3))
        if self.family == SD15 and self.rarely():
            strengths = {"strength_model": self.one(0.5, -0.7), "strength_clip": 1.0}
            node = self.graph.add("LoraLoader", model=model, clip=clip, lora_name=LORA, **strengths)
            return [node, 0], [node, 1], vae
        return model, clip, vae

    def adapter(self) -> str:
        """Draw a file for the family; every second one takes instructions."""
        names = [name for name, adapter in ADAPTERS.items() if adapter.family == self.family]
        instructed = [name for name in names if ADAPTERS[name].kind == "instruct"]
        return self.one(*instructed) if self.often() else self.one(*names)

    def load(self, name: str) -> list:
        """Load an adapter; seldom without an encoder connected, so that ViT-H runs."""
        alone = not ADAPTERS[name].reads_image or (self.rarely() and self.rarely())
        return self.out("Loader", adapter_name=name, clip_vision=None if alone else self.clip_vision())

    def clip_vision(self) -> list:
        return self.out("OpenClip", image_encoder=SMALL_VIT_H, text_encoder="none")

    def instruct_clip(self) -> list:
        return [self.pack("OpenClip", image_encoder=SMALL_VIT_H, text_encoder=TEXT_TOWER), 1]

    def pictures(self, number: int = 1) -> list:
        """Return so many pictures in a batch, each as it is, or cut out, cropped or both."""
        if number > 1:
            return self.graph.out("ImageBatch", image1=self.pictures(number - 1), image2=self.pictures())
        if self.often():
            image, mask = self.loaded("cut")
            return self.out("Prepare", image=image, mask=mask)
        return self.loaded()[0]

    def loaded(self, part: str = "") -> tuple[list, list]:
        """Load a picture with this in its name; its mask is white where it is transparent."""
        node = self.graph.add("LoadImage", image=self.one(*(name for name in PICTURES if part in name)))
        return [node, 0], [node, 1]

    def tiles(self) -> list:
        """Return one picture as a batch of squares; how many depends on its shape."""
        return self.out("Tile", image=self.loaded()[0])

    def mask(self) -> list:
        return self.loaded("cut")[1]

    # References and embeds

    def row(self, adapter: Adapter) -> list:
        """Return a row of references, which act in any of the ways there are."""
        combine = self.one(CONCAT, *options("Reference", "combine"))
        if adapter.reads_face:
            return self.face(adapter, combine)
        row = None
        each = self.one([self.batch], [1] * self.batch) if combine == PER_INDEX else self.one([1], [2], [1, 1], [1, 2])
        for number in each:  # weights never sum up to nothing, of which no mean can be made
            weight = self.one(1.0, 0.5) if row is None or combine == "average" else self.one(1.0, -0.5, 0.0)
            read = self.picture(adapter, number, combine)
            row = self.out("Reference", weight=weight, combine=combine, references=row, face_structure=None, **read)
        return row

    def picture(self, adapter: Adapter, number: int, combine: str) -> dict:
        """Return so many pictures, or what ComfyUI has read of them; or tiles of one, which are any number."""
        if self.rarely():
            vision, crop = self.clip_vision(), self.one("center", "none")
            seen = self.graph.out("CLIPVisionEncode", clip_vision=vision, image=self.pictures(number), crop=crop)
            return {"clip_vision_output": seen, "fit": None, "image_mask": None}
        tiled = number == 1 and combine != PER_INDEX and not adapter.reads_face and self.rarely()
        return {"image": self.tiles() if tiled else self.pictures(number)}

    def face(self, adapter: Adapter, combine: str) -> list:
        """Return a reference that is a face, with a picture where the adapter reads one; several act together."""
        face, crop, number = self.some_face()
        combine = combine if number == 1 else CONCAT
        read = {"image": crop if self.often() else None, "fit": None, "image_mask": None}
        if adapter.reads_image:
            read = {"image": crop} if crop else self.picture(adapter, number, combine)
        return self.out("Reference", weight=self.one(1.0, 0.5), combine=combine, face=face, **read)

    def some_face(self) -> tuple[list, list | None, int]:
        """Return a face, the picture that belongs to it or None, and how many faces it is."""
        stored = [name for name in FACES if self.state[name]]
        if stored and self.often():
            return self.out("LoadFace", file=self.one(*stored)), None, 1
        photo, which, together = self.one(*PHOTOS), self.one("largest", "all"), self.one("each", "average")
        image = self.graph.out("LoadImage", image=photo)
        node = self.pack("ReadFace", image=image, which=which, together=together)
        seen = PHOTOS[photo] if which == "all" else 1
        number = 1 if together == "average" else seen
        return [node, 0], [node, 1] if number == seen else None, number

    def embeds(self, clip: list) -> list:
        """Return embeds of an adapter's file, by any of the ways that its kind has."""
        of = {name: self.state[name].adapter for name in EMBEDS if self.state[name]}
        loadable = [(n, file) for file, adapter in of.items() for n in ADAPTERS if self.state[n] == adapter]
        loadable = [(name, file) for name, file in loadable if ADAPTERS[name].family == self.family]
        if loadable and self.often():
            name, file = self.one(*loadable)
            return self.out("LoadEmbeds", adapter=self.load(name), file=file)
        name = self.adapter()
        loaded = self.load(name)
        if ADAPTERS[name].reads_face or self.watched or not self.rarely():
            return self.encode(name, loaded, clip)
        method = self.one(*(one for one in options("Combine", "method") if one != THEN))
        alike = method != CONCAT  # one picture each, so that both are as long
        return self.combined(method, *(self.encode(name, loaded, clip, alike) for _ in range(2)))

    def encode(self, name: str, loaded: list, clip: list, one_picture: bool = False) -> list:
        """Encode references, pictures or tiles of one."""
        if one_picture:
            source = {"image": self.pictures()}
        elif ADAPTERS[name].reads_face or self.often():
            source = {"references": self.row(ADAPTERS[name])}
        else:
            source = {"image": self.tiles() if self.often() else self.pictures(self.one(1, 1, 2, 3))}
        return self.out("Encode", adapter=loaded, clip=clip, **source)

    def combined(self, method: str, first: list, second: list) -> list:
        return self.out("Combine", embeds_1=first, embeds_2=second, method=method)
