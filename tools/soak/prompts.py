"""Random prompts: from files and words to embeds, and from embeds to pictures."""

import random
from collections.abc import Mapping

from comfyhost.prompt_builder import ApiPrompt

from soak.files import ADAPTERS, EMBEDS, FACES, LORA, PHOTOS, PICTURES, SD3, SD15, SDXL, SMALL_VIT_H, TEXT_TOWER, State
from soak.tried_values import NODES, PACK, TRIED

FAMILIES = (*(SD15,) * 8, SDXL, SD3)
CONCAT, PER_INDEX, THEN = "concat", "one per batch index", "then"
# What a link brings, by its type; an input of another type is left out where it is not given.
MAKERS = {
    "CLIP,INSTRUCT_CLIP": lambda draw: draw.out("OpenClip", 1, image_encoder=SMALL_VIT_H, text_encoder=TEXT_TOWER),
    "INSTRUCT_LAYERS": lambda draw: draw.layers(),
    "INSTRUCT_SCHEDULE": lambda draw: draw.schedule(),
    "MASK": lambda draw: draw.loaded("cut")[1],
}
CFG, SEEDS = (5.0, 1.0, 7.5), (0, 7, 2**64 - 1)
OFTEN = ("euler", "dpmpp_2m")
WINDOWS = ((0.0, 1.0), (0.0, 1.0), (0.0, 0.5), (0.3, 0.9), (1.0, 1.0))
# Every adapter acts at each step and place, so that another one is seen in what is made.
WATCHED = {"weight": 0.8, "instruct_guidance": 2.0, "start_percent": 0.0, "end_percent": 1.0}
WATCHED |= {"attn_mask": None, "schedule": None, "layers": None}
GRID_AXES = {
    "nothing": "",
    "instruction": "use the style\nuse the pose",
    "weight": "0.4, 0.9",
    "guidance": "auto, simple, three-way",
    "instruct_guidance": "1, 4",
    "image_guidance": "0, 1",
    "cfg": "1, 5",
    "seed": "3, 18446744073709551615",
}


class Drawing:
    """A prompt being drawn: its family, how many latents it samples, its cfg (a number, or a task's), and its graph.

    offered: the server's samplers and schedulers. state: what is in the files now. watched: see WATCHED. fitting: the
    family's adapters.
    """

    def __init__(self, drawn_by: random.Random, offered: Mapping[str, list[str]], state: State):
        self.random, self.offered, self.state, self.graph = drawn_by, offered, state, ApiPrompt()
        self.family, self.batch = self.one(*FAMILIES), self.one(1, 1, 1, 2, 3)
        self.watched = self.one(False, False, True)
        self.fitting = [name for name, adapter in ADAPTERS.items() if adapter.family == self.family]

    def one(self, *values):
        return self.random.choice(values)

    def rarely(self) -> bool:
        return self.one(False, False, False, False, True)

    def often(self) -> bool:
        return self.one(False, True)

    def pack(self, kind: str, **given) -> str:
        """Add a node of the pack, with what is not given drawn by its schema, optional things at times."""
        for group, name, type_, _ in NODES[PACK + kind]["inputs"]:
            values, maker = TRIED[PACK + kind][name], MAKERS.get(type_)
            if name in given or not (values or maker):
                continue
            if group == "required" or (self.often() if values else self.rarely()):
                given[name] = self.one(*values) if values else maker(self)
        return self.graph.add(PACK + kind, **given)

    def out(self, kind: str, slot: int = 0, **given) -> list:
        return [self.pack(kind, **given), slot]

    def prompt(self) -> ApiPrompt:
        """Apply adapters one behind the other and sample; label, watch and save it, at times."""
        (model, clip, vae), self.cfg = self.checkpoint(), self.one(*CFG)
        if self.rarely():
            return self.grid(model, clip, vae)
        embeds = []
        for _ in range(self.one(1, 1, 2, 3)):
            embeds = self.embeds(clip)
            if self.one(False, False, True):
                self.pack("SaveEmbeds", embeds=embeds)
            if not self.watched and self.rarely():
                embeds = self.out("Combine", embeds_1=embeds, embeds_2=self.embeds(clip), method=THEN)
            model = self.applied(model, embeds)
        watch = self.pack("Watch", model=model) if self.watched else None
        samples = self.sampled([watch, 0] if watch else model, self.texts(embeds, clip), *self.latent(vae))
        if watch or self.rarely():
            self.graph.add("SaveLatent", samples=samples, filename_prefix="latents/soak")
        image = self.graph.out("VAEDecode", samples=samples, vae=vae)
        if watch:
            self.save(self.out("HeatMap", watch=[watch, 1], image=image))
        return self.save(self.out("LabelGrid", images=image) if self.rarely() else image)

    def save(self, image: list) -> ApiPrompt:
        self.graph.add("SaveImage", images=image, filename_prefix="soak")
        return self.graph

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
        instructed = [name for name in self.fitting if ADAPTERS[name].kind == "instruct"]
        return self.one(*instructed) if self.often() else self.one(*self.fitting)

    def load(self, name: str) -> list:
        """Load an adapter; seldom without an encoder connected, so that ViT-H runs."""
        alone = not ADAPTERS[name].reads_image or (self.rarely() and self.rarely())
        return self.out("Loader", adapter_name=name, clip_vision=None if alone else self.clip_vision())

    def clip_vision(self) -> list:
        return self.out("OpenClip", image_encoder=SMALL_VIT_H, text_encoder="none")

    def pictures(self, number: int = 1) -> list:
        """Return so many pictures in a batch, each as it is, or cut out, cropped or both."""
        if number > 1:
            return self.graph.out("ImageBatch", image1=self.pictures(number - 1), image2=self.pictures())
        if self.often():
            image, mask = self.loaded("cut")
            return self.out("Prepare", image=image, mask=mask)
        return self.loaded()[0]

    def loaded(self, part: str = "") -> tuple[list, list]:
        node = self.graph.add("LoadImage", image=self.one(*(name for name in PICTURES if part in name)))
        return [node, 0], [node, 1]

    def tiles(self) -> list:
        """Return one picture as a batch of squares; how many depends on its shape."""
        return self.out("Tile", image=self.loaded()[0])

    # References and embeds

    def row(self, name: str) -> list:
        """Return a row of references for an adapter, which act in any of the ways there are."""
        combine = self.one(CONCAT, *TRIED[f"{PACK}Reference"]["combine"])
        if ADAPTERS[name].reads_face:
            return self.face(name, combine)
        row = None
        each = self.one([self.batch], [1] * self.batch) if combine == PER_INDEX else self.one([1], [2], [1, 1], [1, 2])
        for number in each:  # weights never sum up to nothing, of which no mean can be made
            weight = self.one(1.0, 0.5) if row is None or combine == "average" else self.one(1.0, -0.5, 0.0)
            read = self.picture(number, number == 1 and combine != PER_INDEX)
            row = self.out("Reference", weight=weight, combine=combine, references=row, face_structure=None, **read)
        return row

    def picture(self, number: int, may_be_tiled: bool = False) -> dict:
        """Return so many pictures, or what ComfyUI has read of them; or tiles of one, which are any number."""
        if self.rarely():
            vision, crop = self.clip_vision(), self.one("center", "none")
            seen = self.graph.out("CLIPVisionEncode", clip_vision=vision, image=self.pictures(number), crop=crop)
            return {"clip_vision_output": seen, "fit": None, "image_mask": None}
        return {
            "image": self.out("Tile", image=self.loaded()[0])
            if may_be_tiled and self.rarely()
            else self.pictures(number)
        }

    def face(self, name: str, combine: str) -> list:
        """Return a reference that is a face, with a picture where the adapter reads one; several act together."""
        face, crop, number = self.some_face()
        combine = combine if number == 1 else CONCAT
        read = {"image": crop if self.often() else None, "fit": None, "image_mask": None}
        if ADAPTERS[name].reads_image:
            read = {"image": crop} if crop else self.picture(number)
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
        made_by = {file: self.state[file].adapter for file in EMBEDS if self.state[file]}
        loadable = [(name, file) for file, by in made_by.items() for name in self.fitting if self.state[name] == by]
        if loadable and self.often():
            name, file = self.one(*loadable)
            return self.out("LoadEmbeds", adapter=self.load(name), file=file)
        name = self.adapter()
        loaded = self.load(name)
        if ADAPTERS[name].reads_face or self.watched or not self.rarely():
            return self.encode(name, loaded, clip)
        method = self.one(*(one for one in TRIED[f"{PACK}Combine"]["method"] if one != THEN))
        alike = method != CONCAT  # one picture each, so that both are as long
        first, second = (self.encode(name, loaded, clip, alike) for _ in range(2))
        return self.out("Combine", embeds_1=first, embeds_2=second, method=method)

    def encode(self, name: str, loaded: list, clip: list, one_picture: bool = False) -> list:
        if one_picture:
            source = {"image": self.pictures()}
        elif ADAPTERS[name].reads_face or self.often():
            source = {"references": self.row(name)}
        else:
            source = {
                "image": self.out("Tile", image=self.loaded()[0])
                if self.often()
                else self.pictures(self.one(1, 1, 2, 3))
            }
        return self.out("Encode", adapter=loaded, clip=clip, **source)

    # Applying and sampling

    def applied(self, model: list, embeds: list) -> list:
        """Apply embeds, by a task's recommended settings at times."""
        start, end = self.one(*WINDOWS)
        settings, made = {"start_percent": start, "end_percent": end}, self.graph[embeds[0]]
        if self.watched:
            settings = WATCHED
        elif made["class_type"] == f"{PACK}Encode" and self.rarely():
            loaded = made["inputs"]["adapter"]
            if ADAPTERS[self.graph[loaded[0]]["inputs"]["adapter_name"]].kind == "instruct":
                task = self.pack("Task", adapter=loaded)
                names = ("weight", "guidance", "instruct_guidance", "image_guidance")
                settings |= {name: [task, slot] for slot, name in enumerate(names, start=1)}
                self.cfg = [task, 5]
        return self.out("Apply", model=model, embeds=embeds, **settings)

    def schedule(self) -> list:
        batch = ", ".join(str(self.one(0.3, 1.0, 1.5)) for _ in range(self.batch)) if self.often() else ""
        return self.out("Schedule", batch_factors=batch)

    def layers(self) -> list:
        """Draw layer weights. SD3 has no tables, and its weight acts in one place."""
        kinds, scalings = (TRIED[f"{PACK}Layers"][name] for name in ("weight_type", "scaling"))
        if self.family == SD3:
            kinds = [kind for kind in kinds if "style" not in kind and "composition" not in kind]
            scalings = scalings[:1]
        own = self.one("", "", "0: 1", "0: 0.5, 1: 1") if self.family == SD15 else ""
        return self.out("Layers", weight_type=self.one(*kinds), scaling=self.one(*scalings), layer_weights=own)

    def texts(self, embeds: list, clip: list) -> tuple[list, ...]:
        if self.graph[embeds[0]]["class_type"] == f"{PACK}Encode" and not self.rarely():
            return [embeds[0], 1], [embeds[0], 2]
        return tuple(self.graph.out("CLIPTextEncode", clip=clip, text=text) for text in ("a teapot", "blurry"))

    def latent(self, vae: list) -> tuple[list, float]:
        """Return an empty latent, or a picture's; and how much of it is to be sampled anew."""
        if not self.rarely():
            size = {"width": self.one(64, 80, 96, 128), "height": self.one(64, 64, 96), "batch_size": self.batch}
            return self.graph.out("EmptySD3LatentImage" if self.family == SD3 else "EmptyLatentImage", **size), 1.0
        image = self.graph.out("LoadImage", image="cut-2.png")
        samples = self.graph.out("VAEEncode", pixels=image, vae=vae)
        return self.graph.out("RepeatLatentBatch", samples=samples, amount=self.batch), self.one(0.5, 1.0)

    def sampled(self, model: list, texts: tuple[list, ...], latent: list, denoise: float) -> list:
        """Sample latents, mostly by KSampler, by any sampler but one, which takes as many steps as it likes."""
        sampler = self.one(*OFTEN, *(one for one in self.offered["sampler_name"] if one != "dpm_adaptive"))
        both, seed = {"model": model, "positive": texts[0], "negative": texts[1], "cfg": self.cfg}, self.one(*SEEDS)
        if not self.rarely():
            given = {**both, **self.steps(), "sampler_name": sampler, "latent_image": latent}
            return self.graph.out("KSampler", **given, denoise=denoise, seed=seed)
        basic = self.graph.out("BasicGuider", model=model, conditioning=texts[0])
        return self.graph.out(
            "SamplerCustomAdvanced",
            noise=self.graph.out("RandomNoise", noise_seed=seed),
            guider=self.graph.out("CFGGuider", **both) if self.often() else basic,
            sampler=self.graph.out("KSamplerSelect", sampler_name=sampler),
            sigmas=self.graph.out("BasicScheduler", model=model, denoise=denoise, **self.steps()),
            latent_image=latent,
        )

    def steps(self) -> dict:
        """Draw scheduler and steps. ComfyUI 0.3.75's kl_optimal divides 0 by 0 for a single step."""
        scheduler, steps = self.one(*self.offered["scheduler"]), self.one(1, 2, 2, 3)
        return {"scheduler": scheduler, "steps": max(steps, 2) if scheduler == "kl_optimal" else steps}

    def grid(self, model: list, clip: list, vae: list) -> ApiPrompt:
        """Make a grid of two or three settings by two, or of one setting alone."""
        name, (latent, denoise) = self.adapter(), self.latent(vae)
        in_row = ADAPTERS[name].reads_face or self.often()
        source = {"references": self.row(name)} if in_row else {"image": self.pictures()}
        rows = self.one(*GRID_AXES)
        columns = self.one(*(axis for axis in GRID_AXES if axis != rows))
        axes = {"rows": rows, "row_values": GRID_AXES[rows], "columns": columns, "column_values": GRID_AXES[columns]}
        models = {"model": model, "adapter": self.load(name), "clip": clip, "vae": vae}
        given = {**models, **source, **axes, **self.steps(), "latent": latent, "denoise": denoise, "cfg": self.cfg}
        node = self.pack("Grid", sampler_name=self.one(*OFTEN), **given)
        self.save([node, 0])
        return self.save([node, 1])
