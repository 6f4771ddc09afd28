"""Random prompts: from embeds to pictures."""

from __future__ import annotations

import random
from collections.abc import Mapping

from comfyhost.workflow import ApiPrompt

from soak.encoding import PACK, THEN, Encoding, options
from soak.files import ADAPTERS, SD3, SD15, State

CFG, SEEDS = (5.0, 1.0, 7.5), (0, 7, 2**64 - 1)
SLOW = ("dpm_adaptive",)  # as many steps as it likes
OFTEN = ("euler", "dpmpp_2m")
WINDOWS = ((0.0, 1.0), (0.0, 1.0), (0.0, 0.5), (0.3, 0.9), (1.0, 1.0))
EVERYWHERE = {"attn_mask": None, "schedule": None, "layers": None}
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


def drawn(drawn_by: random.Random, offered: Mapping[str, list[str]], state: State) -> ApiPrompt:
    """Draw a valid prompt: see Encoding."""
    drawing = Sampling(drawn_by, offered, state)
    drawing.all()
    return drawing.graph


class Sampling(Encoding):
    """A prompt being drawn, with what follows embeds. cfg: a number, or a task's."""

    cfg: float | list

    def all(self) -> None:
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
                embeds = self.combined(THEN, embeds, self.embeds(clip))
            model = self.applied(model, embeds)
        watch = self.pack("Watch", model=model) if self.watched else None
        samples = self.sampled([watch, 0] if watch else model, self.texts(embeds, clip), *self.latent(vae))
        if watch or self.rarely():
            self.graph.add("SaveLatent", samples=samples, filename_prefix="latents/soak")
        image = self.graph.out("VAEDecode", samples=samples, vae=vae)
        if watch:
            self.save(self.out("HeatMap", watch=[watch, 1], image=image))
        self.save(self.out("LabelGrid", images=image) if self.rarely() else image)

    def save(self, image: list) -> None:
        self.graph.add("SaveImage", images=image, filename_prefix="soak")

    def applied(self, model: list, embeds: list) -> list:
        """Apply embeds, by a task's recommended settings at times."""
        start, end = self.one(*WINDOWS)
        settings = {"start_percent": start, "end_percent": end}
        if self.watched:
            settings = {"weight": 0.8, "instruct_guidance": 2.0, "start_percent": 0.0, "end_percent": 1.0, **EVERYWHERE}
        elif self.graph[embeds[0]]["class_type"] == f"{PACK}Encode" and self.rarely():
            loaded = self.graph[embeds[0]]["inputs"]["adapter"]
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
        kinds, scalings = options("Layers", "weight_type"), options("Layers", "scaling")
        if self.family == SD3:
            kinds, scalings = (
                [kind for kind in kinds if "style" not in kind and "composition" not in kind],
                scalings[:1],
            )
        own = self.one("", "", "0: 1", "0: 0.5, 1: 1") if self.family == SD15 else ""
        return self.out("Layers", weight_type=self.one(*kinds), scaling=self.one(*scalings), layer_weights=own)

    def texts(self, embeds: list, clip: list) -> tuple[list, ...]:
        """Return positive and negative: Encode's, or ComfyUI's own."""
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
        """Sample latents by any sampler, mostly by KSampler."""
        sampler = self.one(*OFTEN, *(one for one in self.offered["sampler_name"] if one not in SLOW))
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

    def grid(self, model: list, clip: list, vae: list) -> None:
        """Make a grid of two or three settings by two, or of one setting alone."""
        name, (latent, denoise) = self.adapter(), self.latent(vae)
        in_row = ADAPTERS[name].reads_face or self.often()
        source = {"references": self.row(ADAPTERS[name])} if in_row else {"image": self.pictures()}
        rows = self.one(*GRID_AXES)
        columns = self.one(*(axis for axis in GRID_AXES if axis != rows))
        axes = {"rows": rows, "row_values": GRID_AXES[rows], "columns": columns, "column_values": GRID_AXES[columns]}
        models = {"model": model, "adapter": self.load(name), "clip": clip, "vae": vae}
        given = {**models, **source, **axes, **self.steps(), "latent": latent, "denoise": denoise, "cfg": self.cfg}
        node = self.pack("Grid", sampler_name=self.one(*OFTEN), **given)
        self.save([node, 0])
        self.save([node, 1])
