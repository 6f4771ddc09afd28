"""The parts of a random prompt that come before embeds: models, adapters, pictures, masks, faces."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from comfyhost.api_prompt import ApiPrompt

from soak import catalogue
from soak.catalogue import ADAPTERS, FACE, POOLED, SD3, SD15, Adapter
from soak.schema import Schema

PACK = "IPAdapterInstruct"
MOST_SEED = 2**64 - 1
OWN_WORDS, NONE = "own words", "none"


@dataclass(frozen=True)
class Choices:
    """The samplers and schedulers that the server offers."""

    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]


@dataclass
class Scene:
    """A prompt being drawn: its family, how many latents it samples, and which files it reads.

    uses: (adapter's file, stored embeds of it or None).
    """

    random: random.Random
    schema: Schema
    choices: Choices
    family: str
    batch: int = 1
    graph: ApiPrompt = field(default_factory=ApiPrompt)
    uses: set[tuple[str, str | None]] = field(default_factory=set)
    faces: set[str] = field(default_factory=set)

    def some(self, probability: float) -> bool:
        return self.random.random() < probability

    def options(self, kind: str, name: str) -> list[str]:
        """The choices of a combo of the pack's."""
        return self.schema.options(f"{PACK}{kind}", name)

    def option(self, kind: str, name: str) -> str:
        return self.random.choice(self.options(kind, name))

    def pack(self, kind: str, slot: int = 0, **inputs) -> list:
        """A link from a new node of the pack."""
        return self.graph.out(f"{PACK}{kind}", slot, **inputs)

    def number(self, *values: float) -> float:
        return self.random.choice(values)

    # Models

    def checkpoint(self) -> tuple[list, list, list]:
        """Load model, CLIP and VAE; at times behind a LoRA."""
        node = self.graph.add("CheckpointLoaderSimple", ckpt_name=catalogue.CHECKPOINTS[self.family])
        model, clip = [node, 0], [node, 1]
        if self.family == SD15 and self.some(0.15):
            strengths = {"strength_model": self.number(0.5, 1.0, -0.7), "strength_clip": 1.0}
            lora = self.graph.add("LoraLoader", model=model, clip=clip, lora_name=catalogue.LORA, **strengths)
            model, clip = [lora, 0], [lora, 1]
        return model, clip, [node, 2]

    def adapter_name(self, *kinds: str) -> str:
        """Draw a file for the family; of these kinds, if any are given. Every second one takes instructions."""
        names = [n for n, a in ADAPTERS.items() if a.family == self.family and (not kinds or a.kind in kinds)]
        instructed = [name for name in names if ADAPTERS[name].takes_instruction]
        plain = [name for name in names if name not in instructed]
        return self.random.choice((instructed if self.half() else plain) or names)

    def load(self, name: str) -> list:
        """Return a loaded adapter's link. It seldom has no encoder connected, so that the loader's ViT-H runs."""
        reads_images = ADAPTERS[name].reads != (FACE,)
        vision = self.clip_vision() if reads_images and self.some(0.97) else None
        return self.pack(
            "Loader",
            adapter_name=name,
            image_encoder=self.random.choice(("auto", catalogue.VIT_H)),
            lora_strength=self.number(0.0, 0.6, -1.0) if self.some(0.3) else 1.0,
            clip_vision=vision,
            instruct_clip=self.reader(),
        )

    def clip_vision(self) -> list:
        """A small image encoder by open_clip."""
        return self.open_clip()

    def reader(self) -> list | None:
        """Return what reads the instruction in place of the checkpoint's CLIP, at times."""
        return self.open_clip(1, text_encoder=catalogue.TEXT_TOWER) if self.some(0.2) else None

    def open_clip(self, slot: int = 0, text_encoder: str = NONE) -> list:
        return self.pack("OpenClip", slot, image_encoder=catalogue.SMALL_VIT_H, text_encoder=text_encoder)

    # Pictures

    def picture(self, number: int = 1) -> list:
        """Return so many pictures in a batch."""
        image = self.one_picture()
        for _ in range(number - 1):
            image = self.graph.out("ImageBatch", image1=image, image2=self.one_picture())
        return image

    def one_picture(self) -> list:
        return self.random.choice((self.loaded, self.prepared))()

    def loaded(self) -> list:
        return self.graph.out("LoadImage", image=self.random.choice(list(catalogue.PICTURES)))

    def cut(self) -> tuple[list, list]:
        """A picture and its mask, white where it is transparent."""
        node = self.graph.add("LoadImage", image=self.random.choice(catalogue.CUT_OUT))
        return [node, 0], [node, 1]

    def prepared(self) -> list:
        """A picture cut out, cropped, or both."""
        image, mask = self.cut()
        return self.pack(
            "Prepare",
            image=image,
            mask=mask,
            action=self.option("Prepare", "action"),
            background=self.random.choice(("random", "#808080", "orange")),
            seed=self.seed(),
            feather=self.number(0.0, 0.0, 3.5),
            padding=self.number(0.0, 0.25, 1.0),
            invert=self.half(),
        )

    def tiles(self) -> list:
        """One picture as a batch of squares; how many depends on its shape."""
        sizes = {"max_tiles": self.random.choice((2, 4)), "overlap": self.number(0.0, 0.1, 0.5), "whole": self.half()}
        return self.pack("Tile", image=self.loaded(), **sizes)

    def mask(self) -> list:
        if self.some(0.4):
            return self.cut()[1]
        size = {"width": self.random.choice((64, 80)), "height": self.random.choice((64, 48))}
        return self.graph.out("SolidMask", value=self.number(1.0, 0.5, 0.8), **size)

    def maybe_mask(self, probability: float = 0.3) -> list | None:
        return self.mask() if self.some(probability) else None

    # Faces

    def face(self) -> tuple[list, list | None, int]:
        """A face, the picture that belongs to it or None, and how many faces it is."""
        if self.some(0.4):
            name = self.random.choice(list(catalogue.FACES))
            self.faces.add(name)
            return self.pack("LoadFace", file=name), None, 1
        photo = self.random.choice(list(catalogue.PHOTOS))
        which, together = self.option("ReadFace", "which"), self.option("ReadFace", "together")
        node = self.read_face(photo, which=which, together=together)
        seen = catalogue.PHOTOS[photo] if which == "all" else 1
        faces = 1 if together == "average" else seen
        return [node, 0], [node, 1] if faces == seen else None, faces

    def read_face(self, photo: str, **how: str) -> str:
        """Add the node that reads a photo's face, and return its id."""
        usual = {
            "model_pack": self.random.choice(catalogue.FACE_PACKS),
            "device": self.option("ReadFace", "device"),
            "which": "largest",
            "together": "each",
            "save_as": "",
        }
        image = self.graph.out("LoadImage", image=photo)
        return self.graph.add(f"{PACK}ReadFace", image=image, **{**usual, **how})

    # Numbers

    def seed(self) -> int:
        return self.random.choice((0, 1, 7, MOST_SEED, self.random.randrange(2**32)))

    def half(self) -> bool:
        return self.some(0.5)

    def list_of(self, number: int, probability: float = 0.3) -> str:
        """Return a number for each of so many, as they are typed; mostly nothing."""
        if not self.some(probability):
            return ""
        return ", ".join(str(self.number(0.3, 0.5, 1.0, 1.5)) for _ in range(number))

    def texts(self) -> dict[str, str]:
        return {
            "prompt": self.random.choice(catalogue.PROMPTS),
            "negative_prompt": self.random.choice(catalogue.NEGATIVES),
        }

    def instruction(self) -> str:
        return self.random.choice(catalogue.INSTRUCTIONS)

    def words(self) -> dict[str, str]:
        """A task, or own words: every second time."""
        task = OWN_WORDS if self.half() else self.option("Encode", "task")
        return {"task": task, "instruction": self.instruction()}

    @property
    def is_joint(self) -> bool:
        return self.family == SD3


def reads_image_embeds(adapter: Adapter) -> bool:
    return POOLED in adapter.reads
