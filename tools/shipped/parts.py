"""The workflows' common parts: nodes placed in columns and linked. The figures are the pack's own tables'."""

from dataclasses import asdict, dataclass

from comfyhost.in_process import pack_module

from shipped.graph import Node, Pair, Source, Workflow
from shipped.notes import ADAPTERS, CHECKPOINTS, ENCODER, text_of

families = pack_module("models.families")
tasks = pack_module("models.guidance.tasks")

# Columns are named for what their nodes do, and stand where they begin at the left.
PREPARING, LOADING, READING, APPLYING, SAMPLING, SAVING = -380, 40, 460, 920, 1340, 1720
TOP = 90  # of the first node in each
PICTURE_TOP = TOP + 435  # where the first picture stands below the loaders
PICTURE_STEP = 500  # from one picture to the next below it
SECOND_PICTURE = LOADING, PICTURE_TOP + PICTURE_STEP
BELOW_ENCODE = 560  # what stands under an Encode in the first row
FRAMES = {  # what stands above it, left, width, and the height around one picture, or one Encode and Apply
    "load": ("Load", 20, 400, 995),
    "instruct": ("Instruct", 440, 860, 680),
    "sample": ("Sample and save", 1320, 820, 680),
}
ROW_HEIGHT = 1140  # of the frame around Encode, Apply and a latent, one below the other

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
    """A workflow with an adapter on a base model. `loaded`: the checkpoint, the adapter, and the reference picture."""

    family: families.Family = families.SD15

    def load(self, title: str = "Reference picture", pos: Pair = (LOADING, PICTURE_TOP)) -> None:
        """Add the three loaders; `pos`: the picture's place."""
        self.load_checkpoint()
        self.loaded |= self.load_adapter(ADAPTERS[self.family.name], ENCODER)
        self.loaded |= self.load_picture(pos, title)

    def load_checkpoint(self) -> None:
        file, kind = CHECKPOINTS[self.family.name], "CheckpointLoaderSimple"
        self.loaded |= self.add(kind, (LOADING, TOP), (360, 110), models=[file], ckpt_name=file["name"])

    def load_adapter(self, file: dict, *encoder: dict, top: int = TOP + 160) -> Node:
        """Load an adapter's file. encoder: the image encoder's, which is found by itself."""
        pos, models = (LOADING, top), [file, *encoder]
        return self.add("IPAdapterInstructLoader", pos, (360, 190), models=models, adapter_name=file["name"])

    def load_controlnet(self, file: dict, pos: Pair, width: int = 400) -> Node:
        return self.add("ControlNetLoader", pos, (width, 90), models=[file], control_net_name=file["name"])

    def load_picture(self, pos: Pair, title: str) -> Node:
        return self.add("LoadImage", pos, (360, 400), title, image=PICTURE)

    def reference(self, pos: Pair, **inputs) -> Node:
        """Add Instruct Reference, a row of references with one more."""
        return self.add("IPAdapterInstructReference", pos, (400, 400), **inputs)

    def encode(
        self, words: str | Source, prompt: str = "", pos: Pair = (READING, TOP), width: int = 400, **changes
    ) -> Node:
        """Add Encode Instruct Prompt.

        words: a task's name, or an instruction in one's own words. prompt: if it is not the task's, then another task's
        name, or one's own. changes: what it gets instead; references are read in place of the loaded picture.
        """
        own = next((task.instruction for task in tasks.TASKS if task.name == words), None)
        texts = dict(zip(("prompt", "negative_prompt"), PROMPTS.get(prompt or words, (prompt, NEGATIVE)), strict=True))
        instructed = {"task": words if own else tasks.OWN_WORDS, "instruction": own or words, **texts}
        instructed["image"] = None if changes.get("references") else self.loaded
        return self.add("IPAdapterInstructEncode", pos, (width, 420), **{**instructed, **changes})

    def apply(self, encoded: Node, pos: Pair = (APPLYING, TOP), **changes) -> Node:
        """Add Apply IPAdapter-Instruct as the authors set it. `changes`: what it gets besides, or instead."""
        usual = asdict(self.family.settings)
        del usual["cfg"]
        return self.add("IPAdapterInstructApply", pos, (360, 390), **{"embeds": encoded, **usual, **changes})

    def empty_latent(self, pos: Pair = (APPLYING, 550), batch: int = 1) -> Node:
        kind, side = LATENTS[self.family.name]
        return self.add(kind, pos, (360, 130), width=side, height=side, batch_size=batch)

    def sample(self, model: Source, conditioning: Node, latent: Source, top: int = TOP, **changes) -> Node:
        """Add KSampler as the family is sampled, and VAE Decode, which has the pictures.

        conditioning: the node whose positive and negative the sampler takes. changes: what it gets besides, or instead.
        """
        linked = {"model": model, "positive": conditioning, "negative": conditioning, "latent_image": latent}
        usual = {**linked, "seed": SEED, "cfg": self.family.settings.cfg, **SAMPLERS[self.family.name]}
        samples = self.add("KSampler", (SAMPLING, top), (320, 320), **{**usual, **changes})
        return self.add("VAEDecode", (SAMPLING, top + 380), (320, 60), samples=samples)

    def sample_and_save(self, model: Source, conditioning: Node, latent: Source | None = None, **changes) -> Node:
        """Sample and decode, by default from an empty latent under Apply; save the pictures and return them."""
        pictures = self.sample(model, conditioning, latent or self.empty_latent(), **changes)
        self.save(pictures)
        return pictures

    def save(self, pictures: Source, pos: Pair = (SAVING, TOP), height: int = 460) -> None:
        self.add("SaveImage", pos, (400, height), images=pictures, filename_prefix="IPAdapter-Instruct")

    def instruct_in_a_column(
        self, words: str, prompt: str = "", row: Source | None = None, batch: int = 1, **changes
    ) -> Node:
        """Encode, apply, sample and save, with Encode, Apply and latent one below the other; return the pictures.

        row: of references, to encode instead of the picture. changes: what Apply gets besides.
        """
        encoded = self.encode(words, prompt, (APPLYING, TOP), 360, references=row)
        model = self.apply(encoded, (APPLYING, BELOW_ENCODE), **changes)
        return self.sample_and_save(model, encoded, self.empty_latent((APPLYING, BELOW_ENCODE + 440), batch))

    def instruct_by(self, mask: Node, words: str, prompt: str = "", **how) -> None:
        """Prepare the picture by a mask of it, show that, and instruct with it; explain, and bring all into view.

        The picture and what makes the mask stand in the column before the loaders'. how: what Prepare gets.
        """
        asked = {"mask": mask, "action": "cut out and crop", "seed": 1, **how}
        prepared = self.add("IPAdapterInstructPrepare", (LOADING, PICTURE_TOP), (360, 310), **asked)
        self.add("PreviewImage", (LOADING, PICTURE_TOP + 370), (360, 340), "What the encoder sees", images=prepared)
        encoded = self.encode(words, prompt, image=prepared)
        self.sample_and_save(self.apply(encoded), encoded)
        self.group("Reference and mask", PREPARING - 20, 10, 400, 1160)
        self.finish((READING, 750), (820, 340), load=1255)
        self.move_right(LOADING - PREPARING)

    def explain(self, pos: Pair, size: Pair) -> None:
        """Add the note about this workflow, with the files that its nodes name."""
        files = [file for node in self.nodes for file in node["properties"].get("models", [])]
        self.note(text_of(self.name, self.family, files), pos, size)

    def finish(self, pos: Pair = (SAMPLING, 760), size: Pair = (780, 320), **heights: int) -> None:
        """Explain the workflow, and add the three coloured frames of most. heights: of those that are not as usual."""
        self.explain(pos, size)
        for name, (title, left, width, height) in FRAMES.items():
            self.group(title, left, 10, width, heights.get(name, height))

    def batch(self, first: Source, second: Source, pos: Pair, width: int = 360) -> Node:
        return self.add("ImageBatch", pos, (width, 60), image1=first, image2=second)

    def square(self, image: Source, side: int, pos: Pair, title: str = "", width: int = 360) -> Node:
        """Add what cuts and scales a picture to a square."""
        to_a_square = {"upscale_method": "lanczos", "width": side, "height": side, "crop": "center"}
        return self.add("ImageScale", pos, (width, 170), title, image=image, **to_a_square)

    def square_mask(self, places: tuple[Pair, ...], titles: tuple[str, str]) -> Node:
        """Add a mask of 512 pixels with a white square in it, of three nodes. titles: of its outside and inside."""
        black, white, both = places
        outer = self.add("SolidMask", black, (360, 130), titles[0], value=0.0, width=512, height=512)
        inner = self.add("SolidMask", white, (360, 130), titles[1], width=256, height=256)
        put = {"destination": outer, "source": inner, "x": 128, "y": 64, "operation": "add"}
        return self.add("MaskComposite", both, (360, 180), "Instead of a mask drawn by hand", **put)

    def labelled(self, pictures: Source, pos: Pair, columns: list[str], rows: str = "") -> Source:
        """Add Instruct Label Grid and return its sheet."""
        labels = {"row_labels": rows, "column_labels": "\n".join(columns)}
        return self.add("IPAdapterInstructLabelGrid", pos, (320, 260), images=pictures, **labels)["grid"]
