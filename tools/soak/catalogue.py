"""The things a soak's prompts may name: model files, pictures, stored embeds and faces, and what they hold at first."""

from __future__ import annotations

from dataclasses import dataclass, replace

SD15, SDXL, SD3 = "sd15", "sdxl", "sd3"
FAMILIES = (SD15, SDXL, SD3)
STATES, POOLED, FACE = "states", "pooled", "face"
READS = {
    "instruct": (STATES,),
    "base": (POOLED,),
    "plus": (STATES,),
    "full-face": (STATES,),
    "faceid": (FACE,),
    "faceid-plus": (STATES, FACE),
    "faceid-resampler": (FACE,),
}


@dataclass(frozen=True)
class Adapter:
    """The content of an adapter file: for which family, of which kind, drawn by which seed."""

    family: str
    kind: str
    seed: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        return READS[self.kind]

    @property
    def takes_instruction(self) -> bool:
        return self.kind == "instruct"

    def other(self) -> Adapter:
        """Return an adapter that was trained otherwise."""
        return replace(self, seed=self.seed + 100)


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
CHECKPOINTS = {family: f"{family}.safetensors" for family in FAMILIES}
VIT_H = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
SMALL_VIT_H = "small-vit-h.safetensors"
TEXT_TOWER = "small-clip-l.safetensors"
LORA = "small-lora.safetensors"
PICTURES = {  # name -> width, height; those with "cut" in their names are transparent outside an ellipse
    "square.png": (96, 96),
    "wide.png": (192, 80),
    "tall.png": (64, 160),
    "cut-1.png": (120, 96),
    "cut-2.png": (96, 128),
    "small.png": (48, 40),
}
CUT_OUT = tuple(name for name in PICTURES if "cut" in name)
PHOTOS = {"one-face.png": 1, "two-faces.png": 2}  # how many faces are found in each
FACE_PACKS = ("buffalo_l", "antelopev2")
FACES = {f"face-{number}.face.safetensors": list(PHOTOS)[number % 2] for number in range(3)}
INSTRUCTIONS = (
    "use the style",
    "use the composition",
    "use the face",
    "use the pose",
    "use everything",
    "use the object, a red car",
    "what the wall behind it is painted with",
)
PROMPTS = ("a cat on a roof", "a teapot, studio light", "", "two people (talking:1.2) in the rain")
NEGATIVES = ("", "blurry, low quality", "text")


@dataclass(frozen=True)
class Stored:
    """Embeds that were saved: by which adapter's file, with which instruction, of which picture."""

    adapter: str
    instruction: str
    picture: str


EMBEDS = {
    f"{name.partition('.')[0]}-{number}.instruct.safetensors": Stored(
        name, INSTRUCTIONS[number], list(PICTURES)[number]
    )
    for name, adapter in ADAPTERS.items()
    if adapter.kind in ("instruct", "plus")
    for number in range(2 if adapter.family == SD15 else 1)
}
