"""The workflows' common parts: columns of nodes, each placed and linked. The figures are the pack's own tables'."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfyhost.in_process import pack_module

from shipped.columns import APPLYING, BELOW_ENCODE, LOAD_HEIGHT, LOADING, PICTURE_TOP, READING, SAMPLING, SAVING, TOP
from shipped.files import ADAPTERS, CHECKPOINTS, ENCODER
from shipped.graph import Node, Output, Workflow
from shipped.notes import text_of

families = pack_module("models.families")
tasks = pack_module("models.guidance.tasks")

PICTURE = "example.png"  # ComfyUI brings it
SEED = 20240805
NEGATIVE = "blurry, low quality, watermark"
STATUE = "a bronze statue in a park, golden hour, highly detailed"
PROMPTS = {
    "style": ("a lighthouse on a cliff above the sea", f"{NEGATIVE}, text"),
    "colour": ("a bowl of fruit on a wooden table, studio photo", NEGATIVE),
    "pose": (STATUE, f"{NEGATIVE}, extra limbs, deformed hands"),
    "composition": (STATUE, NEGATIVE),
    "face": ("portrait of a ship's captain in a wool coat, harbour", f"{NEGATIVE}, deformed face, crossed eyes"),
    "object": ("a helmet on a market stall, morning light", f"{NEGATIVE}, cropped"),
}
SAMPLERS = {
    "sd15": {"steps": 20, "sampler_name": "dpmpp_2m", "scheduler": "normal"},
    "sdxl": {"steps": 25, "sampler_name": "dpmpp_2m", "scheduler": "karras"},
    "sd3": {"steps": 28, "sampler_name": "dpmpp_2m", "scheduler": "sgm_uniform"},
}
LATENTS = {"sd15": ("EmptyLatentImage", 512), "sdxl": ("EmptyLatentImage", 1024), "sd3": ("EmptySD3LatentImage", 1024)}


@dataclass
class InstructWorkflow(Workflow):
    """A workflow with an adapter on a base model. The nodes that load are kept here for those that come after."""

    family: str = "sd15"
    checkpoint: Node = field(default_factory=dict)
    adapter: Node = field(default_factory=dict)
    picture: Output | None = None

    @property
    def settings(self) -> Any:
        """The authors' settings for the family."""
        return next(family for family in families.FAMILIES if family.name == self.family).settings

    def load(self, title: str = "Reference picture", pos: tuple[int, int] = (LOADING, PICTURE_TOP)) -> None:
        """Add the three loaders; `pos`: the picture's place."""
        self.load_checkpoint()
        self.adapter = self.load_adapter(ADAPTERS[self.family], ENCODER)
        self.picture = self.load_picture(pos, title)

    def load_checkpoint(self) -> None:
        file = CHECKPOINTS[self.family]
        pos, size = (LOADING, TOP), (360, 110)
        self.checkpoint = self.add("CheckpointLoaderSimple", pos, size, models=[file], ckpt_name=file["name"])

    def load_adapter(self, file: dict, *encoder: dict, top: int = TOP + 160) -> Node:
        """Load an adapter's file. encoder: the image encoder's, which is found by itself."""
        pos, models = (LOADING, top), [file, *encoder]
        return self.add("IPAdapterInstructLoader", pos, (360, 190), models=models, adapter_name=file["name"])

    def load_picture(self, pos: tuple[int, int], title: str) -> Output:
        return self.add("LoadImage", pos, (360, 400), title, image=PICTURE)["IMAGE"]

    def reference(self, pos: tuple[int, int], **inputs) -> Output:
        """Add Instruct Reference and return its row of references."""
        return self.add("IPAdapterInstructReference", pos, (400, 400), **inputs)["references"]

    def encode(
        self,
        words: str | Output,
        texts: tuple[str, str] | None = None,
        pos: tuple[int, int] = (READING, TOP),
        width: int = 400,
        references: Output | None = None,
        **changes: Output,
    ) -> Node:
        """Add Encode Instruct Prompt.

        words: a task's name, or an instruction in one's own words. texts: prompt and negative prompt, if not those of
        the task. references: a row of them, in place of the loaded picture. changes: what it gets instead.
        """
        own = next((task.instruction for task in tasks.TASKS if task.name == words), None)
        prompt, negative = texts or PROMPTS[words]
        usual = {
            "adapter": self.adapter["adapter"],
            "clip": self.checkpoint["CLIP"],
            "task": words if own else tasks.OWN_WORDS,
            "instruction": own or words,
            "prompt": prompt,
            "negative_prompt": negative,
            "image": None if references else self.picture,
            "references": references,
        }
        return self.add("IPAdapterInstructEncode", pos, (width, 420), **{**usual, **changes})

    def apply(self, encoded: Node, pos: tuple[int, int] = (APPLYING, TOP), **changes) -> Output:
        """Add Apply IPAdapter-Instruct as the authors set it. `changes`: what it gets besides, or instead."""
        usual = {
            "model": self.checkpoint["MODEL"],
            "embeds": encoded["embeds"],
            "weight": self.settings.weight,
            "instruct_guidance": self.settings.instruct_guidance,
            "image_guidance": self.settings.image_guidance,
        }
        return self.add("IPAdapterInstructApply", pos, (360, 370), **{**usual, **changes})["MODEL"]

    def empty_latent(self, pos: tuple[int, int] = (APPLYING, 550), batch: int = 1) -> Output:
        kind, side = LATENTS[self.family]
        return self.add(kind, pos, (360, 130), width=side, height=side, batch_size=batch)["LATENT"]

    def sample(self, model: Output, conditioning: Node, latent: Output, top: int = TOP, **changes) -> Output:
        """Add KSampler as the family is sampled, and VAE Decode; return the pictures.

        conditioning: the node whose positive and negative the sampler takes. changes: what it gets besides, or instead.
        """
        usual = {
            "model": model,
            "positive": conditioning["positive"],
            "negative": conditioning["negative"],
            "latent_image": latent,
            "seed": SEED,
            "cfg": self.settings.cfg,
            **SAMPLERS[self.family],
        }
        samples = self.add("KSampler", (SAMPLING, top), (320, 320), **{**usual, **changes})["LATENT"]
        return self.decode(samples, (SAMPLING, top + 380), 320)

    def decode(self, samples: Output, pos: tuple[int, int], width: int) -> Output:
        return self.add("VAEDecode", pos, (width, 60), samples=samples, vae=self.checkpoint["VAE"])["IMAGE"]

    def sample_and_save(self, model: Output, conditioning: Node, latent: Output | None = None, **changes) -> Output:
        """Sample and decode, by default from an empty latent under Apply; save the pictures and return them."""
        pictures = self.sample(model, conditioning, latent or self.empty_latent(), **changes)
        self.save(pictures)
        return pictures

    def save(self, pictures: Output, pos: tuple[int, int] = (SAVING, TOP), height: int = 460) -> None:
        self.add("SaveImage", pos, (400, height), images=pictures, filename_prefix="IPAdapter-Instruct")

    def instruct_in_a_column(
        self,
        words: str,
        texts: tuple[str, str] | None = None,
        row: Output | None = None,
        batch: int = 1,
        **changes: Output,
    ) -> Output:
        """Encode, apply, sample and save, with Encode, Apply and latent one below the other; return the pictures.

        row: of references, to encode instead of the picture. changes: what Apply gets besides.
        """
        encoded = self.encode(words, texts, (APPLYING, TOP), 360, references=row)
        model = self.apply(encoded, (APPLYING, BELOW_ENCODE), **changes)
        return self.sample_and_save(model, encoded, self.empty_latent((APPLYING, BELOW_ENCODE + 440), batch))

    def explain(self, pos: tuple[int, int] = (SAMPLING, 760), size: tuple[int, int] = (780, 320)) -> None:
        """Add the note about this workflow, by default under the sampler, with the files that its nodes name."""
        files = [file for node in self.nodes for file in node["properties"].get("models", [])]
        self.note(text_of(self.name, files), pos, size)

    def frames(self, load: int = LOAD_HEIGHT, instruct: int = 680, sample: int = 680) -> None:
        """Add the three coloured frames of most workflows, as high as this."""
        self.group("Load", 20, 10, 400, load)
        self.group("Instruct", 440, 10, 860, instruct)
        self.group("Sample and save", 1320, 10, 820, sample)

    def batch(self, first: Output, second: Output, pos: tuple[int, int], width: int = 360) -> Output:
        return self.add("ImageBatch", pos, (width, 60), image1=first, image2=second)["IMAGE"]

    def square(self, image: Output, side: int, pos: tuple[int, int], title: str = "", width: int = 360) -> Output:
        """Add what cuts and scales a picture to a square."""
        to_a_square = {"upscale_method": "lanczos", "width": side, "height": side, "crop": "center"}
        return self.add("ImageScale", pos, (width, 170), title, image=image, **to_a_square)["IMAGE"]

    def square_mask(self, places: tuple[tuple[int, int], ...], titles: tuple[str, str]) -> Output:
        """Add a mask of 512 pixels with a white square in it, of three nodes. titles: of its outside and inside."""
        black, white, both = places
        outer = self.add("SolidMask", black, (360, 130), titles[0], value=0.0, width=512, height=512)["MASK"]
        inner = self.add("SolidMask", white, (360, 130), titles[1], width=256, height=256)["MASK"]
        put = {"destination": outer, "source": inner, "x": 128, "y": 64, "operation": "add"}
        return self.add("MaskComposite", both, (360, 180), "Instead of a mask drawn by hand", **put)["MASK"]
